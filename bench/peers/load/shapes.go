package main

import (
	"math/rand"
	"sync"
	"sync/atomic"
	"time"
)

// How many different values a load sends, in turn. They are random, so nothing on the way makes them smaller.
const distinct = 1024

func values(size int) [][]byte {
	draw := rand.New(rand.NewSource(1))
	found := make([][]byte, distinct)
	for at := range found {
		found[at] = make([]byte, size)
		draw.Read(found[at])
	}
	return found
}

// calls is work of callers that each make one call after the other.
type calls struct {
	inFlight int
	records  int   // of one call
	bytes    int64 // of values of one call
	most     int64
	call     func(caller int, number int64) error // number counts calls of all callers, from 0 on
	number   atomic.Int64
	end      func()
}

func (c *calls) run(until time.Time) (done, error) {
	var left atomic.Int64
	left.Store(max(1, c.most/c.bytes))
	each := make([][]time.Duration, c.inFlight)
	failures := make(chan error, c.inFlight)
	var callers sync.WaitGroup
	for caller := range c.inFlight {
		callers.Go(func() {
			for began := time.Now(); began.Before(until) && left.Add(-1) >= 0; {
				if err := c.call(caller, c.number.Add(1)-1); err != nil {
					failures <- err
					return
				}
				now := time.Now()
				each[caller] = append(each[caller], now.Sub(began))
				began = now
			}
		})
	}
	callers.Wait()
	select {
	case err := <-failures:
		return done{}, err
	default:
	}
	var found done
	for _, latencies := range each {
		found.latencies = append(found.latencies, latencies...)
	}
	found.records = int64(len(found.latencies) * c.records)
	return found, nil
}

func (c *calls) close() {
	if c.end != nil {
		c.end()
	}
}

// pump is work that is sent without waiting for answers, as far as `send` lets it.
type pump struct {
	records int   // of one item
	bytes   int64 // of values of one item
	most    int64
	send    func(number int64) error // returns once there is room for it
	settle  func() error             // returns once all is answered
	end     func()
	number  int64
}

func (p *pump) run(until time.Time) (done, error) {
	var sent int64
	for ; sent < max(1, p.most/p.bytes) && time.Now().Before(until); sent++ {
		if err := p.send(p.number); err != nil {
			return done{}, err
		}
		p.number++
	}
	if err := p.settle(); err != nil {
		return done{}, err
	}
	return done{records: sent * int64(p.records)}, nil
}

func (p *pump) close() {
	if p.end != nil {
		p.end()
	}
}
