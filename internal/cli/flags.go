package cli

import "github.com/spf13/pflag"

// DeviceFlag adds --device to a command.
func DeviceFlag(fs *pflag.FlagSet, device *string, standard string) {
	fs.StringVar(device, "device", standard, "`name` of the device: auto, cpu or cuda")
}

// ThreadsFlag adds --threads to a command.
func ThreadsFlag(fs *pflag.FlagSet, threads *int) {
	fs.IntVar(threads, "threads", 0, "CPU threads (default one a core)")
}

// SetFlag adds --set to a command; what tells which values it changes.
func SetFlag(fs *pflag.FlagSet, set *[]string, what string) {
	fs.StringArrayVar(set, "set", nil, "change "+what+", as in `key=value`; may be repeated")
}

// RunFlag adds --run to a command.
func RunFlag(fs *pflag.FlagSet, run *string) {
	fs.StringVar(run, "run", "", "`directory` of the run, as in runs/nano")
}

// JSONFlag adds --json to a command.
func JSONFlag(fs *pflag.FlagSet, on *bool) {
	fs.BoolVar(on, "json", false, "print an object of JSON a line")
}
