package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"jambalaya/internal/human"
)

// Print writes a report for people.
func (r StepReport) Print(w io.Writer) error {
	fmt.Fprintf(w, "%s: %d parameters, batches of %d x %d tokens\n%v\n\n", r.Name, r.Params, r.Batch, r.Length, r.Host)
	fmt.Fprintf(w, "best of %d    %.0f tokens/s (%.1f ms), %.1f GFLOP/s of %.1f GFLOP a step\n", r.Steps, r.Best, r.BestMS, 1e3*r.TFLOPS, r.StepGFLOP)
	fmt.Fprintf(w, "median        %.0f tokens/s (%.1f ms)\n", r.Median, r.MedianMS)
	if r.MFU > 0 {
		fmt.Fprintf(w, "utilisation   %.1f%% of the rate of an %d x %d product in bf16, %.0f TFLOP/s\n", 100*r.MFU, gpuProduct, gpuProduct, r.TFLOPS/r.MFU)
	}
	fmt.Fprintf(w, "memory        %s planned, %s at the peak\n\n", human.Bytes(r.Planned), human.Bytes(r.Peak))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "operator\tcalls\tms\tshare\tGFLOP/s\tGB/s\t")
	for _, u := range r.Operators {
		fmt.Fprintf(t, "%s\t%d\t%.2f\t%.1f%%\t%s\t%.1f\t\n", u.Kernel, u.Calls, u.MS, 100*u.Share, gigas(u.Flops), u.Bytes/1e9)
	}
	fmt.Fprintf(t, "between kernels\t\t%.2f\t%.1f%%\t\t\t\n", r.Between, 100*r.Between/r.ProfiledMS)
	fmt.Fprintf(t, "step\t\t%.2f\t\t\t\t\n", r.ProfiledMS)
	return t.Flush()
}

// gigas is a rate in billions, nothing where the work has none of it.
func gigas(rate float64) string {
	if rate == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f", rate/1e9)
}

// JSON writes a report as an object on a line.
func (r StepReport) JSON(w io.Writer) error { return json.NewEncoder(w).Encode(r) }

// Print writes a report for people.
func (r KernelsReport) Print(w io.Writer) error {
	fmt.Fprintf(w, "%v\nmultiply-add peak %.1f GFLOP/s, copy %.1f GB/s\n\n", r.Host, r.Ceilings.FMA/1e9, r.Ceilings.Copy/1e9)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "kernel\tmedian ms\tbest ms\tGFLOP/s\tGB/s\treaches\tof\t")
	for _, k := range r.Kernels {
		fmt.Fprintf(t, "%s\t%.3f\t%.3f\t%s\t%.1f\t%.0f%%\t%s\t\n", k.Name, k.MedianMS, k.BestMS, gigas(k.Flops), k.Bytes/1e9,
			100*k.Fraction, k.Ceiling)
	}
	return t.Flush()
}

// JSON writes an object on a line for the machine with its ceilings, and for each kernel.
func (r KernelsReport) JSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	err := enc.Encode(struct {
		Name string `json:"name"`
		Host
		Ceilings
	}{"ceilings", r.Host, r.Ceilings})
	for _, k := range r.Kernels {
		if err == nil {
			err = enc.Encode(k)
		}
	}
	return err
}
