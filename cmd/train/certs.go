package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"jambalaya/internal/cli"
	"jambalaya/internal/pki"
)

// newCertsCommand makes what workers on several machines know each other by.
func newCertsCommand() *cobra.Command {
	var plan pki.Plan
	var out string
	var workers int
	var names []string
	cmd := &cobra.Command{
		Use:   "certs --workers N",
		Short: "Make the certificates and the gossip key of a run on several machines",
		Long: `Make the certificates and the gossip key of a run on several machines.

Each machine needs ca.pem, gossip.key, and the two files of its worker; ca.key stays here.
The command again makes new certificates of the same authority. Workers that run follow
their files within a second, so that nothing has to stop for it:

  train certs --workers 4 --new-authority --new-gossip-key   distribute ca.pem and gossip.key, then the rest
  train certs --workers 4 --retire                           once all workers have their new files`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if workers < 0 || workers > 1<<12 || workers == 0 && len(names) == 0 && !plan.Watcher {
				return cli.Config(fmt.Errorf("--workers: %d is not between 1 and %d", workers, 1<<12))
			}
			for i := range workers {
				plan.Workers = append(plan.Workers, strconv.Itoa(i))
			}
			plan.Workers = append(plan.Workers, names...)
			entries, err := pki.Make(out, plan)
			if errors.Is(err, pki.ErrPlan) {
				return cli.Config(err)
			}
			if err != nil {
				return err
			}
			return listCerts(cmd.OutOrStdout(), out, entries)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&out, "out", "certs", "`directory` to make them in")
	fs.IntVar(&workers, "workers", 0, "workers, named 0 to `N`-1")
	fs.StringArrayVar(&names, "worker", nil, "a worker of this `name`; may be repeated. \"\" makes one certificate for all workers")
	fs.BoolVar(&plan.Watcher, "watcher", false, "one more, for who may see the status and nothing else")
	fs.IntVar(&plan.Days, "days", 365, "for which they hold")
	fs.BoolVar(&plan.NewAuthority, "new-authority", false, "replace the authority; the old one stays trusted")
	fs.BoolVar(&plan.NewGossipKey, "new-gossip-key", false, "put a new gossip key first; the old ones still decrypt")
	fs.BoolVar(&plan.Retire, "retire", false, "forget old authorities and old gossip keys")
	return cmd
}

func listCerts(w io.Writer, dir string, entries []pki.Entry) error {
	for _, e := range entries {
		if _, err := fmt.Fprintf(w, "%s: %s\n", filepath.Join(dir, e.File+".pem"), e.Identity); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "%s stays here; workers need ca.pem, gossip.key and the two files of their name\n", filepath.Join(dir, "ca.key"))
	return err
}
