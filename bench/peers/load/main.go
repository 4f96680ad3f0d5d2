// The load generators of the benchmark against peers: one process makes one sample of one load, and prints it as JSON.
//
//	peerload [flags] SYSTEM WORK
//
// It connects, does the work unmeasured for -warm-up, then for -seconds, or until -most bytes of values, and waits for
// the last answer. Nothing that is in flight at the end is counted, and one failure is the end of the sample.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"time"
)

// options are what a load may be told.
type options struct {
	addrs       []string      // of the servers, the one to ask first
	inFlight    int           // calls, batches or messages under way at once
	connections int           // over which they are spread
	size        int           // bytes of a value
	batch       int           // records of a batch
	name        string        // of the stream or topic
	offset      uint64        // from which on records are read
	records     int64         // how many are read from there, 0 for all
	most        int64         // bytes of values of a sample
	linger      time.Duration // how long a producer waits for company
	idempotent  bool          // whether batches are numbered
	config      string        // of a topic: KEY=VALUE, with commas between
}

// work is one load: it goes on until then, and says what it has done once all of it is answered.
type work interface {
	run(until time.Time) (done, error)
	close()
}

// done is what one run did.
type done struct {
	records   int64
	latencies []time.Duration // of each call, where calls are measured one by one
}

type open func(context.Context, options) (work, error)

var loads = map[string]map[string]open{
	"ours":  {"produce": openProduce, "batches": openBatches, "consume": openConsume},
	"etcd":  {"put": openPut},
	"nats":  {"publish": openPublish, "async": openPublishAsync, "atomic": openPublishAtomic, "consume": openOrderedConsumer},
	"redis": {"add": openAdd, "pipeline": openPipeline},
	"kafka": {"produce": openKafkaProduce, "bulk": openKafkaBulk, "consume": openKafkaConsume},
}

// tasks are what is done beside the loads, for setting up.
var tasks = map[string]map[string]func(context.Context, options) (any, error){
	"ours":  {"empty": serveEmpty},
	"nats":  {"create": createStream},
	"kafka": {"create": createTopic},
}

func main() {
	var opts options
	var addrs, pids string
	var seconds, warmUp float64
	flag.StringVar(&addrs, "addr", "127.0.0.1:8400", "addresses of the servers, with commas between")
	flag.StringVar(&pids, "pids", "", "the servers' processes, whose processor time is read, with commas between")
	flag.IntVar(&opts.inFlight, "in-flight", 1, "calls, batches or messages under way at once")
	flag.IntVar(&opts.connections, "connections", 1, "over which they are spread")
	flag.IntVar(&opts.size, "size", 100, "bytes of a value")
	flag.IntVar(&opts.batch, "batch", 1000, "records of a batch")
	flag.StringVar(&opts.name, "name", "bench", "of the stream or topic")
	flag.Uint64Var(&opts.offset, "offset", 0, "from which on records are read")
	flag.Int64Var(&opts.records, "records", 0, "how many are read from there, 0 for all")
	flag.Int64Var(&opts.most, "most", 256<<20, "bytes of values of a sample")
	flag.DurationVar(&opts.linger, "linger", 0, "how long a producer waits for company")
	flag.BoolVar(&opts.idempotent, "idempotent", false, "number the batches")
	flag.StringVar(&opts.config, "config", "", "of a topic: KEY=VALUE, with commas between")
	flag.Float64Var(&seconds, "seconds", 2, "how long is measured")
	flag.Float64Var(&warmUp, "warm-up", 0.5, "for how long it runs before that")
	flag.Parse()
	opts.addrs = strings.Split(addrs, ",")
	if flag.NArg() != 2 {
		fail(fmt.Errorf("usage: peerload [flags] SYSTEM WORK"))
	}
	system, name := flag.Arg(0), flag.Arg(1)
	// Whatever hangs ends by itself.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	if task := tasks[system][name]; task != nil {
		said, err := task(ctx, opts)
		fail(err)
		print(said)
		return
	}
	opener := loads[system][name]
	if opener == nil {
		fail(fmt.Errorf("there is no %s %s", system, name))
	}
	load, err := opener(ctx, opts)
	fail(err)
	sample, err := measure(load, opts, processes(pids), duration(warmUp), duration(seconds))
	load.close()
	fail(err)
	print(sample)
}

// sample is what is printed.
type sample struct {
	Records    int64   `json:"records"`
	ElapsedS   float64 `json:"elapsed_s"`
	P50Us      float64 `json:"p50_us,omitempty"`
	P99Us      float64 `json:"p99_us,omitempty"`
	GeneratorS float64 `json:"generator_cpu_s"`
	ServersS   float64 `json:"servers_cpu_s"`
	OthersS    float64 `json:"others_cpu_s"`
}

func measure(load work, opts options, pids []int, warmUp, span time.Duration) (sample, error) {
	if _, err := load.run(time.Now().Add(warmUp)); err != nil {
		return sample{}, err
	}
	before := processorTime(pids)
	began := time.Now()
	found, err := load.run(began.Add(span))
	elapsed := time.Since(began)
	used := processorTime(pids).since(before)
	if err != nil {
		return sample{}, err
	}
	said := sample{
		Records: found.records, ElapsedS: elapsed.Seconds(),
		GeneratorS: used.own, ServersS: used.servers, OthersS: max(0, used.all-used.own-used.servers),
	}
	if count := len(found.latencies); count > 0 {
		sort.Slice(found.latencies, func(i, j int) bool { return found.latencies[i] < found.latencies[j] })
		said.P50Us = float64(found.latencies[count/2].Nanoseconds()) / 1e3
		said.P99Us = float64(found.latencies[count*99/100].Nanoseconds()) / 1e3
	}
	return said, nil
}

func processes(text string) []int {
	var pids []int
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' }) {
		pid, err := strconv.Atoi(word)
		fail(err)
		pids = append(pids, pid)
	}
	return pids
}

func duration(seconds float64) time.Duration {
	return time.Duration(seconds * float64(time.Second))
}

func print(said any) {
	fail(json.NewEncoder(os.Stdout).Encode(said))
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
