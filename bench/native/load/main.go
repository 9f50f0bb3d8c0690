// Command load keeps a number of calls under way for some seconds and reports, as JSON, how many were answered, how fast, and
// every different answer to each request, so that its caller can check them all. It speaks gRPC (bytes as they are) and HTTP.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"native/raw"
)

const mostKept = 64 // different answers to one request that are kept; more are counted as unchecked

type call func(request []byte) ([]byte, error)

type options struct {
	target, method, protocol, requests string
	concurrency, channels              int
	seconds, warm                      float64
	answers                            string
}

type result struct {
	Calls     int            `json:"calls"` // with those before the measured time
	Count     int            `json:"count"`
	Seconds   float64        `json:"seconds"`
	Rate      float64        `json:"rate"`
	P50       float64        `json:"p50"`
	P99       float64        `json:"p99"`
	Errors    map[string]int `json:"errors"`
	Unchecked int            `json:"unchecked"`
}

type worker struct {
	calls     int
	times     []time.Duration
	last      [][]byte // the last answer to each request: mostly the same again, and cheap to compare
	errors    map[string]int
	answers   []map[string]bool
	unchecked int
}

func main() {
	var o options
	flag.StringVar(&o.target, "target", "", "host:port")
	flag.StringVar(&o.protocol, "protocol", "grpc", "grpc or http")
	flag.StringVar(&o.method, "method", "", "gRPC method path, or HTTP path")
	flag.StringVar(&o.requests, "requests", "", "folder of files, each the bytes of a request")
	flag.StringVar(&o.answers, "answers", "", "folder for the different answers: REQUEST.N")
	flag.IntVar(&o.concurrency, "concurrency", 1, "calls under way")
	flag.IntVar(&o.channels, "channels", 4, "most gRPC connections")
	flag.Float64Var(&o.seconds, "seconds", 3, "how long to measure")
	flag.Float64Var(&o.warm, "warm", 0.5, "how long to run before that")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	requests, names, err := read(o.requests)
	if err != nil {
		return err
	}
	calls, err := connect(o)
	if err != nil {
		return err
	}
	begin := time.Now().Add(time.Duration(o.warm * float64(time.Second)))
	end := begin.Add(time.Duration(o.seconds * float64(time.Second)))
	workers := make([]*worker, o.concurrency)
	var group sync.WaitGroup
	for i := range workers {
		workers[i] = newWorker(len(requests))
		group.Go(func() { workers[i].work(calls[i%len(calls)], requests, i, begin, end) })
	}
	group.Wait()
	total := summary(workers, time.Since(begin).Seconds())
	if err := write(o.answers, names, workers); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(total)
}

func newWorker(requests int) *worker {
	answers := make([]map[string]bool, requests)
	for i := range answers {
		answers[i] = map[string]bool{}
	}
	return &worker{errors: map[string]int{}, answers: answers, last: make([][]byte, requests)}
}

func (w *worker) work(send call, requests [][]byte, first int, begin, end time.Time) {
	for n := first; ; n++ {
		which := n % len(requests)
		before := time.Now()
		if before.After(end) {
			return
		}
		answer, err := send(requests[which])
		w.calls++
		switch {
		case err != nil:
			w.errors[err.Error()]++
		case w.last[which] != nil && bytes.Equal(answer, w.last[which]):
		case len(w.answers[which]) < mostKept || w.answers[which][string(answer)]:
			w.answers[which][string(answer)], w.last[which] = true, answer
		default:
			w.unchecked++
		}
		if before.After(begin) {
			w.times = append(w.times, time.Since(before))
		}
	}
}

func connect(o options) ([]call, error) {
	if o.protocol == "http" {
		transport := &http.Transport{MaxIdleConnsPerHost: o.concurrency, MaxConnsPerHost: o.concurrency}
		return []call{post(&http.Client{Transport: transport}, "http://"+o.target+o.method)}, nil
	}
	calls := make([]call, min(o.channels, o.concurrency))
	for i := range calls {
		connection, err := grpc.NewClient(o.target,
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.ForceCodecV2(raw.Codec{}), grpc.MaxCallRecvMsgSize(math.MaxInt32), grpc.MaxCallSendMsgSize(math.MaxInt32)))
		if err != nil {
			return nil, err
		}
		calls[i] = func(request []byte) (answer []byte, err error) {
			err = connection.Invoke(context.Background(), o.method, &request, &answer)
			return answer, err
		}
	}
	return calls, nil
}

func post(client *http.Client, url string) call {
	return func(request []byte) ([]byte, error) {
		response, err := client.Post(url, "application/json", bytes.NewReader(request))
		if err != nil {
			return nil, err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err == nil && response.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %.200s", response.Status, body)
		}
		return body, err
	}
}

func read(folder string) (requests [][]byte, names []string, err error) {
	files, err := filepath.Glob(filepath.Join(folder, "*"))
	if err != nil || len(files) == 0 {
		return nil, nil, fmt.Errorf("%s: expected requests, found none (%v)", folder, err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, nil, err
		}
		requests, names = append(requests, data), append(names, filepath.Base(file))
	}
	return requests, names, nil
}

func summary(workers []*worker, seconds float64) result {
	total := result{Seconds: seconds, Errors: map[string]int{}}
	var times []time.Duration
	for _, w := range workers {
		times = append(times, w.times...)
		total.Calls += w.calls
		total.Unchecked += w.unchecked
		for text, count := range w.errors {
			total.Errors[text] += count
		}
	}
	slices.Sort(times)
	total.Count = len(times)
	if len(times) > 0 {
		total.Rate = float64(len(times)) / seconds
		total.P50 = times[len(times)/2].Seconds()
		total.P99 = times[len(times)*99/100].Seconds()
	}
	return total
}

func write(folder string, names []string, workers []*worker) error {
	for i, name := range names {
		different := map[string]bool{}
		for _, w := range workers {
			for answer := range w.answers[i] {
				different[answer] = true
			}
		}
		n := 0
		for answer := range different {
			if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("%s.%d", name, n)), []byte(answer), 0o600); err != nil {
				return err
			}
			n++
		}
	}
	return nil
}
