package launch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"jambalaya/internal/cli"
	"jambalaya/parallel/cluster"
)

// metrics serves how the run stands to Prometheus. There is nothing to be changed
// through it.
type metrics struct {
	server   *http.Server
	mu       sync.Mutex
	status   cluster.Status
	restarts float64
}

// standardMetrics is a free port that only this machine reaches.
const standardMetrics = "127.0.0.1:0"

// checkMetrics refuses an address that cannot be listened on.
func (o Options) checkMetrics() error {
	if o.Metrics == "" || o.Metrics == "off" {
		return nil
	}
	host, _, err := net.SplitHostPort(o.Metrics)
	if err == nil && host == "" { // the port would be open on every interface
		err = errors.New("no host before the port; 127.0.0.1 is this machine only")
	}
	if err != nil {
		return cli.Config(fmt.Errorf("--metrics %s: %w", o.Metrics, err))
	}
	return nil
}

// openMetrics starts the server, if one is wanted.
func (l *launcher) openMetrics() error {
	l.metrics = &metrics{status: cluster.Status{Saved: -1}}
	if l.opt.Metrics == "off" {
		return nil
	}
	address := cmp.Or(l.opt.Metrics, standardMetrics)
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return cli.Config(fmt.Errorf("--metrics: %w", err))
	}
	l.metrics.serve(listener)
	l.view.printf("metrics: http://%s/metrics", listener.Addr())
	return nil
}

func (m *metrics) serve(listener net.Listener) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(m, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 5 * time.Second}))
	m.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 16 << 10, IdleTimeout: time.Minute}
	go m.server.Serve(listener) // returns when close stops it
}

func (m *metrics) close() {
	if m.server != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = m.server.Shutdown(ctx)
	}
}

func (m *metrics) set(s cluster.Status) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.status = s
}

func (m *metrics) restarted() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.restarts++
}

const namespace = "jambalaya_"

func description(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(namespace+name, help, labels, nil)
}

var (
	descGeneration = description("generation", "Number of the current generation.")
	descTerm       = description("lease_term", "Term of the coordinator's lease.")
	descPhase      = description("phase", "1 for the phase that the coordinator is in.", "phase")
	descWorkers    = description("workers", "Workers that have joined.")
	descWanted     = description("workers_wanted", "Workers that the run wants.")
	descStep       = description("step", "Optimiser steps taken.")
	descSteps      = description("steps_total", "Optimiser steps of the run.")
	descSaved      = description("checkpoint_step", "Step of the newest checkpoint, -1 for none.")
	descFailures   = description("failures_in_a_row", "Generations that failed since the last progress.")
	descRestarts   = description("worker_restarts_total", "Workers that this launcher has started again.")
	descLoss       = description("loss", "Cross-entropy of the last step, nats.")
	descTokens     = description("worker_tokens_per_second", "Tokens that a worker reads a second.", "worker", "rank")
	descSeconds    = description("worker_step_seconds", "Duration of a worker's last step.", "worker", "rank")
	descBusy       = description("worker_busy_seconds", "Seconds of the last step in which a worker did not wait for others.", "worker", "rank")
	descStraggler  = description("worker_straggler", "1 for a worker that is much slower than the others.", "worker", "rank")
	descImbalance  = description("expert_imbalance", "Load of the busiest expert over the mean, in the worst layer.")
)

// Describe is part of prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect is part of prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	m.mu.Lock()
	s, restarts := m.status, m.restarts
	m.mu.Unlock()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(descGeneration, float64(s.Generation))
	gauge(descTerm, float64(s.Term))
	gauge(descPhase, 1, string(s.Phase))
	gauge(descWorkers, float64(len(s.Workers)))
	gauge(descWanted, float64(s.Wanted))
	gauge(descStep, float64(s.Step))
	gauge(descSteps, float64(s.Steps))
	gauge(descSaved, float64(s.Saved))
	gauge(descFailures, float64(s.Failures))
	ch <- prometheus.MustNewConstMetric(descRestarts, prometheus.CounterValue, restarts)
	imbalance := 0.0
	for _, w := range s.Workers {
		if w.Report.Steps == 0 { // it has not taken a step in this generation
			continue
		}
		rank := strconv.Itoa(w.Rank)
		gauge(descTokens, w.Report.Tokens, w.Worker, rank)
		gauge(descSeconds, w.Report.Seconds, w.Worker, rank)
		gauge(descBusy, w.Report.Busy, w.Worker, rank)
		straggler := 0.0
		if w.Straggler {
			straggler = 1
		}
		gauge(descStraggler, straggler, w.Worker, rank)
		imbalance = max(imbalance, w.Report.Imbalance)
		if w.Rank == 0 {
			gauge(descLoss, w.Report.Loss)
		}
	}
	if imbalance > 0 {
		gauge(descImbalance, imbalance)
	}
}
