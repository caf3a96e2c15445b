package experiments

import (
	"encoding/csv"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"

	"jambalaya/data/table"
)

// writeTables writes results.csv and results.arrow: a row a run that is done.
func (s *Results) writeTables(out string) error {
	columns := s.columns()
	name := filepath.Join(out, resultsFile)
	temporary, err := os.CreateTemp(out, temporaryPrefix+"*")
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name()) // gone already if all went well
	err = table.Write(temporary, columns)
	if err = errors.Join(err, temporary.Chmod(0o644), temporary.Close()); err != nil {
		return err
	}
	if err := os.Rename(temporary.Name(), name); err != nil {
		return err
	}
	return writeCSV(filepath.Join(out, resultsCSV), columns)
}

// columnSet is a table in the making, with a row a run that has a result.
type columnSet struct {
	rows  []*Result
	cells []*Cell // of the rows
	all   []table.Column
}

func values[T any](c *columnSet, of func(i int) T) []T {
	list := make([]T, len(c.rows))
	for i := range list {
		list[i] = of(i)
	}
	return list
}

func (c *columnSet) text(name string, of func(i int) string) {
	c.all = append(c.all, table.Column{Name: name, Values: values(c, of)})
}

func (c *columnSet) whole(name string, of func(i int) int64) {
	c.all = append(c.all, table.Column{Name: name, Values: values(c, of)})
}

func (c *columnSet) number(name string, of func(i int) float64) {
	c.all = append(c.all, table.Column{Name: name, Values: values(c, of)})
}

// columns are the results and costs of each run.
func (s *Results) columns() []table.Column {
	t := &columnSet{}
	for _, c := range s.Grid.Cells {
		if r := s.Cells[c]; r != nil {
			t.rows, t.cells = append(t.rows, r), append(t.cells, c)
		}
	}
	rows, cells := t.rows, t.cells
	t.text("run", func(i int) string { return cellsDir + "/" + cells[i].Name })
	t.text("variant", func(i int) string { return rows[i].Variant })
	t.whole("seed", func(i int) int64 { return int64(rows[i].Seed) })
	t.text("config_hash", func(i int) string { return rows[i].ConfigHash })
	t.text("data_hash", func(i int) string { return rows[i].DataHash })
	t.text("computed_on", func(i int) string { return rows[i].ComputedOn })
	t.whole("attention_layers", func(i int) int64 { return int64(cells[i].Arm.Cost.AttentionLayers) })
	t.whole("layers", func(i int) int64 { return int64(cells[i].Arm.Cost.Layers) })
	t.whole("intermediate_size", func(i int) int64 { return int64(cells[i].Config.Model.IntermediateSize) })
	t.whole("parameters", func(i int) int64 { return cells[i].Arm.Cost.Parameters })
	t.whole("active_parameters", func(i int) int64 { return cells[i].Arm.Cost.Active })
	t.number("flops_per_token", func(i int) float64 { return cells[i].Arm.Cost.FLOPs.Forward() })
	t.number("match", func(i int) float64 { return cells[i].Arm.Match })
	t.whole("steps", func(i int) int64 { return rows[i].Steps })
	t.whole("tokens", func(i int) int64 { return rows[i].Tokens })
	t.number("val_loss", func(i int) float64 { return float64(rows[i].ValLoss) })
	t.number("bits_per_byte", func(i int) float64 { return float64(rows[i].BitsPerByte) })
	t.number("train_loss", func(i int) float64 { return float64(rows[i].TrainLoss) })
	t.number("tokens_per_s", func(i int) float64 { return float64(rows[i].TokensPerS) })
	s.costColumns(t)
	t.whole("skipped", func(i int) int64 { return int64(rows[i].Skipped) })
	t.number("spike_score", func(i int) float64 { return float64(rows[i].SpikeScore) })
	t.number("grad_norm_max", func(i int) float64 { return float64(rows[i].GradNormMax) })
	t.number("activation_rms", func(i int) float64 { return float64(rows[i].ActivationRMS) })
	t.number("activation_max", func(i int) float64 { return float64(rows[i].ActivationMax) })
	if len(rows) > 0 {
		for j, score := range rows[0].Recall { // the same tasks and lengths in every run
			t.number(fmt.Sprintf("recall_%s_%d", score.Task, score.Length), func(i int) float64 { return float64(rows[i].Recall[j].Accuracy) })
		}
	}
	return t.all
}

// costColumns are the measured costs of each run's variant, and its caches.
func (s *Results) costColumns(t *columnSet) {
	cells := t.cells
	t.number("train_tokens_per_s_alone", func(i int) float64 {
		if k := s.Costs[cells[i].Arm]; k != nil {
			return float64(k.TrainTokensPerS)
		}
		return math.NaN()
	})
	t.number("decode_tokens_per_s", func(i int) float64 {
		if k := s.Costs[cells[i].Arm]; k != nil {
			return float64(k.DecodeTokensPerS)
		}
		return math.NaN()
	})
	memory := func(name string, of func(*Costs) int64) {
		t.number(name, func(i int) float64 {
			if k := s.Costs[cells[i].Arm]; k != nil && of(k) > 0 {
				return float64(of(k))
			}
			return math.NaN()
		})
	}
	memory("planned_memory_bytes", func(k *Costs) int64 { return k.PlannedMemory })
	memory("peak_memory_bytes", func(k *Costs) int64 { return k.PeakMemory })
	for j, n := range s.Grid.Spec.Contexts {
		t.whole(fmt.Sprintf("kv_bytes_%d", n), func(i int) int64 { return cells[i].Arm.Cost.Cache[j].KeysValues })
	}
	t.whole("conv_bytes", func(i int) int64 { return cells[i].Arm.Cost.Cache[0].Conv })
	t.whole("scan_bytes", func(i int) int64 { return cells[i].Arm.Cost.Cache[0].Scan })
}

// writeCSV writes the columns; numbers that are none are empty.
func writeCSV(name string, columns []table.Column) error {
	temporary, err := os.CreateTemp(filepath.Dir(name), temporaryPrefix+"*")
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name()) // gone already if all went well
	w := csv.NewWriter(temporary)
	rows := 0
	head := make([]string, len(columns))
	for i, c := range columns {
		head[i] = c.Name
		if values, ok := c.Values.([]string); ok {
			rows = len(values)
		}
	}
	err = w.Write(head)
	for r := range rows {
		record := make([]string, len(columns))
		for i, c := range columns {
			switch values := c.Values.(type) {
			case []string:
				record[i] = values[r]
			case []int64:
				record[i] = strconv.FormatInt(values[r], 10)
			case []float64:
				if !math.IsNaN(values[r]) {
					record[i] = strconv.FormatFloat(values[r], 'g', -1, 64)
				}
			}
		}
		err = errors.Join(err, w.Write(record))
	}
	w.Flush()
	if err = errors.Join(err, w.Error(), temporary.Chmod(0o644), temporary.Close()); err != nil {
		return err
	}
	return os.Rename(temporary.Name(), name)
}
