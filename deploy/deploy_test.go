package deploy

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"jambalaya/configs"
)

// The parts of the schemas that the manifests use. Decoding is strict: a key that is
// not here is a mistake, in the manifest or in this list.

type metadata struct {
	Name string `yaml:"name"`
}

type claim struct {
	APIVersion string   `yaml:"apiVersion"`
	Kind       string   `yaml:"kind"`
	Metadata   metadata `yaml:"metadata"`
	Spec       struct {
		AccessModes []string `yaml:"accessModes"`
		Resources   struct {
			Requests map[string]string `yaml:"requests"`
		} `yaml:"resources"`
	} `yaml:"spec"`
}

type jobSet struct {
	APIVersion string   `yaml:"apiVersion"`
	Kind       string   `yaml:"kind"`
	Metadata   metadata `yaml:"metadata"`
	Spec       struct {
		Network struct {
			EnableDNSHostnames       bool `yaml:"enableDNSHostnames"`
			PublishNotReadyAddresses bool `yaml:"publishNotReadyAddresses"`
		} `yaml:"network"`
		FailurePolicy struct {
			MaxRestarts int `yaml:"maxRestarts"`
		} `yaml:"failurePolicy"`
		ReplicatedJobs []struct {
			Name     string `yaml:"name"`
			Replicas int    `yaml:"replicas"`
			Template struct {
				Spec job `yaml:"spec"`
			} `yaml:"template"`
		} `yaml:"replicatedJobs"`
	} `yaml:"spec"`
}

type job struct {
	CompletionMode   string `yaml:"completionMode"`
	Completions      int    `yaml:"completions"`
	Parallelism      int    `yaml:"parallelism"`
	BackoffLimit     int    `yaml:"backoffLimit"`
	PodFailurePolicy struct {
		Rules []struct {
			Action      string `yaml:"action"`
			OnExitCodes struct {
				ContainerName string `yaml:"containerName"`
				Operator      string `yaml:"operator"`
				Values        []int  `yaml:"values"`
			} `yaml:"onExitCodes"`
			OnPodConditions []struct {
				Type   string `yaml:"type"`
				Status string `yaml:"status"`
			} `yaml:"onPodConditions"`
		} `yaml:"rules"`
	} `yaml:"podFailurePolicy"`
	Template struct {
		Spec pod `yaml:"spec"`
	} `yaml:"template"`
}

type pod struct {
	RestartPolicy                 string `yaml:"restartPolicy"`
	TerminationGracePeriodSeconds int    `yaml:"terminationGracePeriodSeconds"`
	SecurityContext               struct {
		RunAsNonRoot bool  `yaml:"runAsNonRoot"`
		RunAsUser    int64 `yaml:"runAsUser"`
		FSGroup      int64 `yaml:"fsGroup"`
	} `yaml:"securityContext"`
	Containers []container `yaml:"containers"`
	Volumes    []struct {
		Name                  string `yaml:"name"`
		PersistentVolumeClaim struct {
			ClaimName string `yaml:"claimName"`
		} `yaml:"persistentVolumeClaim"`
		Secret struct {
			SecretName  string `yaml:"secretName"`
			DefaultMode int    `yaml:"defaultMode"`
		} `yaml:"secret"`
		EmptyDir map[string]string `yaml:"emptyDir"`
	} `yaml:"volumes"`
}

type container struct {
	Name  string   `yaml:"name"`
	Image string   `yaml:"image"`
	Args  []string `yaml:"args"`
	Env   []struct {
		Name      string `yaml:"name"`
		Value     string `yaml:"value"`
		ValueFrom struct {
			FieldRef struct {
				FieldPath string `yaml:"fieldPath"`
			} `yaml:"fieldRef"`
		} `yaml:"valueFrom"`
	} `yaml:"env"`
	Ports []struct {
		Name          string `yaml:"name"`
		ContainerPort int    `yaml:"containerPort"`
		Protocol      string `yaml:"protocol"`
	} `yaml:"ports"`
	Resources struct {
		Requests map[string]string `yaml:"requests"`
		Limits   map[string]string `yaml:"limits"`
	} `yaml:"resources"`
	SecurityContext struct {
		AllowPrivilegeEscalation bool `yaml:"allowPrivilegeEscalation"`
		ReadOnlyRootFilesystem   bool `yaml:"readOnlyRootFilesystem"`
		Capabilities             struct {
			Drop []string `yaml:"drop"`
		} `yaml:"capabilities"`
	} `yaml:"securityContext"`
	VolumeMounts []struct {
		Name      string `yaml:"name"`
		MountPath string `yaml:"mountPath"`
		ReadOnly  bool   `yaml:"readOnly"`
	} `yaml:"volumeMounts"`
}

func readJobSet(t *testing.T) (claim, jobSet) {
	t.Helper()
	text, err := os.ReadFile("kubernetes/jobset.yaml")
	if err != nil {
		t.Fatal(err)
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	var c claim
	var s jobSet
	if err := errors.Join(d.Decode(&c), d.Decode(&s)); err != nil {
		t.Fatal(err)
	}
	if err := d.Decode(new(any)); err != io.EOF {
		t.Fatalf("more documents: %v", err)
	}
	return c, s
}

func TestJobSet(t *testing.T) {
	c, s := readJobSet(t)
	if c.APIVersion != "v1" || c.Kind != "PersistentVolumeClaim" || !slices.Equal(c.Spec.AccessModes, []string{"ReadWriteMany"}) || c.Spec.Resources.Requests["storage"] == "" {
		t.Errorf("claim: %+v", c)
	}
	if s.APIVersion != "jobset.x-k8s.io/v1alpha2" || s.Kind != "JobSet" || len(s.Spec.ReplicatedJobs) != 1 || !s.Spec.Network.PublishNotReadyAddresses {
		t.Fatalf("job set: %+v", s)
	}
	workers := s.Spec.ReplicatedJobs[0]
	j := workers.Template.Spec
	if j.CompletionMode != "Indexed" || j.Completions != j.Parallelism || workers.Replicas != 1 {
		t.Errorf("not all workers run at once: %+v", j)
	}
	p := j.Template.Spec
	if p.RestartPolicy != "Never" { // else a pod failure policy is refused
		t.Errorf("restartPolicy %q", p.RestartPolicy)
	}
	// The guaranteed grace of the program is 10 s; Kubernetes's own default is 30 s.
	if p.TerminationGracePeriodSeconds < 30 {
		t.Errorf("a grace period of %d s", p.TerminationGracePeriodSeconds)
	}
	want := map[int]string{75: "Ignore", 78: "FailJob"}
	for _, r := range j.PodFailurePolicy.Rules {
		for _, code := range r.OnExitCodes.Values {
			if want[code] != r.Action || r.OnExitCodes.Operator != "In" || r.OnExitCodes.ContainerName != p.Containers[0].Name {
				t.Errorf("exit code %d: %+v", code, r)
			}
			delete(want, code)
		}
	}
	if len(want) > 0 {
		t.Errorf("no rule for exit codes %v", want)
	}
	checkEnvironment(t, s.Metadata.Name, workers.Name, j.Completions, p.Containers[0])
	checkVolumes(t, c.Metadata.Name, p)
}

// checkEnvironment compares what the workers are told with what the job is.
func checkEnvironment(t *testing.T, set, job string, workers int, c container) {
	t.Helper()
	env := map[string]string{}
	for _, e := range c.Env {
		env[e.Name] = e.Value + e.ValueFrom.FieldRef.FieldPath
	}
	for name, want := range map[string]string{
		"WORLD_SIZE":  strconv.Itoa(workers),
		"RANK":        "metadata.annotations['batch.kubernetes.io/job-completion-index']",
		"MASTER_ADDR": set + "-" + job + "-0-0." + set, // the JobSet's name of its first pod
		"MASTER_PORT": strconv.Itoa(c.Ports[0].ContainerPort),
	} {
		if env[name] != want {
			t.Errorf("%s is %q, not %q", name, env[name], want)
		}
	}
	if !slices.Contains(configs.Names(), c.Args[slices.Index(c.Args, "--config")+1]) {
		t.Errorf("%v: there is no such preset", c.Args)
	}
	if c.SecurityContext.AllowPrivilegeEscalation || !slices.Equal(c.SecurityContext.Capabilities.Drop, []string{"ALL"}) {
		t.Errorf("privileges: %+v", c.SecurityContext)
	}
	checkFlags(t, c.Args)
}

func checkVolumes(t *testing.T, claim string, p pod) {
	t.Helper()
	volumes := map[string]bool{}
	for _, v := range p.Volumes {
		volumes[v.Name] = true
		if name := v.PersistentVolumeClaim.ClaimName; name != "" && name != claim {
			t.Errorf("volume %s claims %s, which is not here", v.Name, name)
		}
	}
	for _, m := range p.Containers[0].VolumeMounts {
		if !volumes[m.Name] {
			t.Errorf("no volume %s", m.Name)
		}
		if m.Name == "certs" && (!m.ReadOnly || p.Containers[0].Args[slices.Index(p.Containers[0].Args, "--certs")+1] != m.MountPath) {
			t.Errorf("certificates: %+v", m)
		}
	}
}

// checkFlags wants every flag to be one of the train command.
func checkFlags(t *testing.T, args []string) {
	t.Helper()
	files, err := filepath.Glob("../cmd/train/*.go")
	if err != nil {
		t.Fatal(err)
	}
	var source []byte
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		source = append(source, text...)
	}
	for _, a := range args {
		if name, ok := strings.CutPrefix(a, "--"); ok && !bytes.Contains(source, []byte(`"`+name+`"`)) {
			t.Errorf("train has no flag --%s", name)
		}
	}
}

// directives are the options of sbatch that the script uses, with what they take.
var directives = map[string]string{
	"job-name": `^\S+$`, "ntasks": `^\d+$`, "cpus-per-task": `^\d+$`, "time": `^(\d+-)?\d\d:\d\d:\d\d$`,
	"signal": `^(B:)?(USR1|TERM)@\d+$`, "requeue": `^$`, "open-mode": `^(append|truncate)$`, "output": `^\S+$`,
}

func TestBatchScript(t *testing.T) {
	text, err := os.ReadFile("slurm/train.sbatch")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for line := range strings.Lines(string(text)) {
		option, ok := strings.CutPrefix(strings.TrimSpace(line), "#SBATCH ")
		if !ok {
			continue
		}
		name, value, _ := strings.Cut(strings.TrimPrefix(option, "--"), "=")
		pattern, known := directives[name]
		if !known || !strings.HasPrefix(option, "--") || !regexp.MustCompile(pattern).MatchString(value) {
			t.Errorf("#SBATCH %s", option)
		}
		seen[name] = value
	}
	// A signal to the batch shell (B:) would not reach the workers.
	if at, ok := strings.CutPrefix(seen["signal"], "USR1@"); !ok {
		t.Errorf("signal %q", seen["signal"])
	} else if n, err := strconv.Atoi(at); err != nil || n < 60 {
		t.Errorf("only %s s before the end", at)
	}
	if _, ok := seen["requeue"]; !ok || seen["open-mode"] != "append" {
		t.Error("a job that is queued again loses its output, or is not queued")
	}
}

func TestScriptsParse(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip(err)
	}
	for _, script := range []string{"slurm/train.sbatch", "slurm/try.sh"} {
		if out, err := exec.Command(bash, "-n", script).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", script, err, out)
		}
	}
}
