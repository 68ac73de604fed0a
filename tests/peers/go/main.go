// The cells of Go's client: the same workloads and words as the other peers. Compiled by the parent
// when it is asked to and a toolchain is there; prints one line of JSON, or says on stderr why not.
package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/nats-io/nats.go"
)

const limit = 10 * time.Second

var plan struct {
	workload, url, ca          string
	size, threads, subs, depth int
	window                     time.Duration
	batch                      int
}

var (
	payload    []byte
	connection *nats.Conn
)

func check(err error, what string) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", what, err)
		os.Exit(1)
	}
}

func readPlan(words []string) {
	for _, word := range words {
		key, value, _ := strings.Cut(word, "=")
		number, _ := strconv.Atoi(value)
		switch key {
		case "workload":
			plan.workload = value
		case "url":
			plan.url = value
		case "ca":
			plan.ca = value
		case "size":
			plan.size = number
		case "threads":
			plan.threads = number
		case "subs":
			plan.subs = number
		case "depth":
			plan.depth = number
		case "ms":
			plan.window = time.Duration(number) * time.Millisecond
		case "batch":
			plan.batch = number
		}
	}
}

func connect() *nats.Conn {
	scheme, options := "nats://", []nats.Option(nil)
	if plan.ca != "" {
		scheme, options = "tls://", append(options, nats.RootCAs(plan.ca))
	}
	opened, err := nats.Connect(scheme+plan.url, options...)
	check(err, "connect")
	return opened
}

// What a cell costs, from the moment it is made.
type meter struct {
	start time.Time
	cpu   time.Duration
}

func cpuTime() time.Duration {
	const processClock = 2
	var now syscall.Timespec
	_, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, processClock,
		uintptr(unsafe.Pointer(&now)), 0)
	if errno != 0 {
		check(errno, "clock")
	}
	return time.Duration(now.Nano())
}

func begin() meter { return meter{time.Now(), cpuTime()} }

func (m meter) finish(count int, latencies []time.Duration) {
	cpu, seconds := float64(cpuTime()-m.cpu)/1e3, time.Since(m.start).Seconds()
	if len(latencies) == 0 {
		fmt.Printf("{\"count\":%d,\"seconds\":%.9f,\"cpu_us\":%.3f}\n", count, seconds, cpu)
	} else {
		slices.Sort(latencies)
		quantile := func(part float64) float64 {
			at := min(int(part*float64(len(latencies))), len(latencies)-1)
			return float64(latencies[at]) / 1e3
		}
		fmt.Printf(
			"{\"count\":%d,\"seconds\":%.9f,\"cpu_us\":%.3f,\"p50_us\":%.3f,\"p99_us\":%.3f}\n",
			len(latencies), seconds, cpu, quantile(0.5), quantile(0.99))
	}
	os.Exit(0)
}

// Runs the body on so many goroutines and waits for all.
func onThreads(body func(number int)) {
	var all sync.WaitGroup
	for number := range plan.threads {
		all.Go(func() { body(number) })
	}
	all.Wait()
}

func publish() {
	m := begin()
	end := time.Now().Add(plan.window)
	var count atomic.Int64
	onThreads(func(int) {
		for time.Now().Before(end) {
			for range 250 {
				check(connection.Publish("pub.nowhere", payload), "publish")
			}
			count.Add(250)
		}
	})
	check(connection.Flush(), "flush")
	m.finish(int(count.Load()), nil)
}

func order(count int) {
	text := fmt.Sprintf("%d %d %d", count, plan.size, plan.subs)
	check(connection.Publish("feed.go", []byte(text)), "order")
}

// Counts messages of all handlers, and wakes whoever waits for a number of them.
type counter struct {
	seen, goal atomic.Int64
	reached    chan struct{}
}

func subscribeHandlers() *counter {
	c := &counter{reached: make(chan struct{}, 1)}
	for number := range plan.subs {
		subscription, err := connection.Subscribe(fmt.Sprintf("sub.%d", number), func(*nats.Msg) {
			if c.seen.Add(1) == c.goal.Load() {
				c.reached <- struct{}{}
			}
		})
		check(err, "subscribe")
		check(subscription.SetPendingLimits(-1, -1), "limits")
	}
	return c
}

func batches(round func(count int)) {
	check(connection.Flush(), "flush")
	round(max(plan.subs, 1000))
	m := begin()
	end, count := time.Now().Add(plan.window), 0
	for time.Now().Before(end) {
		round(plan.batch)
		count += plan.batch
	}
	m.finish(count, nil)
}

func pull() {
	subscription, err := connection.SubscribeSync("sub.0")
	check(err, "subscribe")
	check(subscription.SetPendingLimits(-1, -1), "limits")
	batches(func(count int) {
		order(count)
		for range count {
			_, err := subscription.NextMsg(limit)
			check(err, "next")
		}
	})
}

func handler() {
	c := subscribeHandlers()
	batches(func(count int) {
		c.goal.Add(int64(count))
		order(count)
		<-c.reached
	})
}

func pubsub() {
	c := subscribeHandlers()
	batches(func(count int) {
		c.goal.Add(int64(count))
		for range count {
			check(connection.Publish("sub.0", payload), "publish")
		}
		<-c.reached
	})
}

// Does one thing again and again on each goroutine, and takes the time of each.
func timed(one func()) {
	one()
	m := begin()
	end := time.Now().Add(plan.window)
	each := make([][]time.Duration, plan.threads)
	onThreads(func(number int) {
		for start := time.Now(); start.Before(end); start = time.Now() {
			one()
			each[number] = append(each[number], time.Since(start))
		}
	})
	m.finish(0, slices.Concat(each...))
}

func request() {
	timed(func() {
		_, err := connection.Request("echo", payload, limit)
		check(err, "request")
	})
}

func flush() {
	timed(func() {
		check(connection.Publish("pub.nowhere", payload), "publish")
		check(connection.Flush(), "flush")
	})
}

func wake() {
	receiver := connect()
	arrived := make(chan time.Time, 1)
	_, err := receiver.Subscribe("sub.0", func(*nats.Msg) { arrived <- time.Now() })
	check(err, "subscribe")
	check(receiver.Flush(), "flush")
	var latencies []time.Duration
	m := begin()
	for end := time.Now().Add(plan.window); time.Now().Before(end); {
		// Paces: what is measured is a lone message.
		time.Sleep(time.Millisecond)
		start := time.Now()
		check(connection.Publish("sub.0", payload), "publish")
		latencies = append(latencies, (<-arrived).Sub(start))
	}
	m.finish(0, latencies)
}

func connects() {
	var latencies []time.Duration
	m := begin()
	end := time.Now().Add(3 * plan.window)
	for start := time.Now(); len(latencies) < 500 && start.Before(end); start = time.Now() {
		connect().Close()
		latencies = append(latencies, time.Since(start))
	}
	m.finish(0, latencies)
}

func idle() {
	subscribeHandlers()
	check(connection.Flush(), "flush")
	time.Sleep(300 * time.Millisecond)
	m := begin()
	time.Sleep(plan.window)
	m.finish(1, nil)
}

func main() {
	plan.size, plan.threads, plan.subs, plan.window, plan.batch = 16, 1, 1, time.Second, 200_000
	readPlan(os.Args[1:])
	payload = []byte(strings.Repeat("x", plan.size))
	cells := map[string]func(){
		"publish": publish, "pull": pull, "handler": handler, "pubsub": pubsub, "request": request,
		"flush": flush, "wake": wake, "idle": idle,
		// Requests of so many goroutines: the pipeline of this client.
		"pipeline": func() { plan.threads = plan.depth; request() },
	}
	if plan.workload == "connect" {
		connects()
	}
	cell, found := cells[plan.workload]
	// A goroutine for each subscription: a hundred thousand of them are no measurement.
	if !found || plan.subs > 1000 && plan.workload == "handler" {
		fmt.Fprintf(os.Stderr, "not here: go has no %s\n", plan.workload)
		os.Exit(1)
	}
	connection = connect()
	cell()
}
