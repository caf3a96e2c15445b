package checkpoint

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"jambalaya/internal/vfs"
)

// killedEnv names the run directory of a child of TestKillProcess.
const killedEnv = "CHECKPOINT_TEST_RUN"

// TestMain lets the test binary be that child: it resumes and saves steps on and
// on, says each one that is safe, and waits to be killed.
func TestMain(m *testing.M) {
	if run := os.Getenv(killedEnv); run != "" {
		if err := saveForEver(run); err != nil {
			fmt.Println(err)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func saveForEver(run string) error {
	root, err := vfs.Dir(run)
	if err != nil {
		return err
	}
	for {
		acknowledged, err := scenario(root, 3)
		if err != nil {
			return err
		}
		fmt.Println(acknowledged)
	}
}

// TestKillProcess kills a real process on a real disk, in the middle of its
// saves, again and again in the same run.
func TestKillProcess(t *testing.T) {
	t.Parallel()
	run := t.TempDir()
	root, err := vfs.Dir(run)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for i := range 12 {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), killedEnv+"="+run)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		acknowledged := int64(-1)
		for range 1 + i%3 {
			if !lines.Scan() {
				t.Fatalf("the child ended by itself: %v", child.Wait())
			}
			if _, err := fmt.Sscan(lines.Text(), &acknowledged); err != nil {
				t.Fatalf("the child said %q", lines.Text())
			}
		}
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = child.Wait() // killed, as it should be
		if err := checkAfter(root, acknowledged); err != nil {
			t.Fatalf("kill %d: %v", i, err)
		}
	}
}
