package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const stallsForS = 60

func natsConnect(addrs []string) (*nats.Conn, error) {
	return nats.Connect("nats://" + strings.Join(addrs, ",nats://"))
}

// createStream makes the stream anew, with three replicas, and says which server leads it.
func createStream(ctx context.Context, opts options) (any, error) {
	conn, err := natsConnect(opts.addrs)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return nil, err
	}
	err = js.DeleteStream(ctx, opts.name)
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, err
	}
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{
		Name: opts.name, Subjects: []string{opts.name}, Storage: jetstream.FileStorage, Replicas: 3, AllowAtomicPublish: true,
	})
	if err != nil {
		return nil, err
	}
	for {
		info, err := stream.Info(ctx)
		if err != nil {
			return nil, err
		}
		if info.Cluster != nil && info.Cluster.Leader != "" && len(info.Cluster.Replicas) == 2 &&
			info.Cluster.Replicas[0].Current && info.Cluster.Replicas[1].Current {
			return map[string]any{"leader": info.Cluster.Leader}, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// openPublish: Publish, each caller waiting for its acknowledgement.
func openPublish(ctx context.Context, opts options) (work, error) {
	conn, err := natsConnect(opts.addrs[:1])
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(conn)
	if err != nil {
		return nil, err
	}
	pool := values(opts.size)
	return &calls{
		inFlight: opts.inFlight, records: 1, bytes: int64(opts.size), most: opts.most,
		call: func(_ int, number int64) error {
			_, err := js.Publish(ctx, opts.name, pool[number%distinct])
			return err
		},
		end: conn.Close,
	}, nil
}

// openPublishAsync: PublishAsync, as many as -in-flight not acknowledged yet.
func openPublishAsync(_ context.Context, opts options) (work, error) {
	conn, err := natsConnect(opts.addrs[:1])
	if err != nil {
		return nil, err
	}
	var failure atomic.Pointer[error]
	js, err := jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(opts.inFlight),
		jetstream.WithPublishAsyncErrHandler(func(_ jetstream.JetStream, _ *nats.Msg, err error) { failure.Store(&err) }))
	if err != nil {
		return nil, err
	}
	pool := values(opts.size)
	check := func(err error) error {
		if found := failure.Load(); err == nil && found != nil {
			return *found
		}
		return err
	}
	return &pump{
		records: 1, bytes: int64(opts.size), most: opts.most,
		send: func(number int64) error {
			_, err := js.PublishAsync(opts.name, pool[number%distinct], jetstream.WithStallWait(stallsForS*time.Second))
			return check(err)
		},
		settle: func() error {
			select {
			case <-js.PublishAsyncComplete():
				return check(nil)
			case <-time.After(stallsForS * time.Second):
				return errors.New("what was published is not acknowledged")
			}
		},
		end: conn.Close,
	}, nil
}

// openPublishAtomic: batches of up to 1,000 messages that are stored all or none, with one acknowledgement each.
func openPublishAtomic(ctx context.Context, opts options) (work, error) {
	conn, err := natsConnect(opts.addrs[:1])
	if err != nil {
		return nil, err
	}
	pool := values(opts.size)
	run := nats.NewInbox()
	batch := func(_ int, number int64) error {
		id := fmt.Sprintf("%s-%d", run[len(run)-12:], number)
		for at := range opts.batch {
			message := nats.NewMsg(opts.name)
			message.Data = pool[(number+int64(at))%distinct]
			message.Header["Nats-Batch-Id"] = []string{id}
			message.Header["Nats-Batch-Sequence"] = []string{strconv.Itoa(at + 1)}
			if at < opts.batch-1 {
				if err := conn.PublishMsg(message); err != nil {
					return err
				}
				continue
			}
			message.Header["Nats-Batch-Commit"] = []string{"1"}
			answer, err := conn.RequestMsgWithContext(ctx, message)
			if err != nil {
				return err
			}
			var said struct {
				Error *struct {
					Description string `json:"description"`
				} `json:"error"`
				Count int `json:"count"`
			}
			if err := json.Unmarshal(answer.Data, &said); err != nil {
				return err
			}
			if said.Error != nil {
				return errors.New(said.Error.Description)
			}
			if said.Count != opts.batch {
				return fmt.Errorf("%d messages were acknowledged of a batch of %d", said.Count, opts.batch)
			}
		}
		return nil
	}
	return &calls{
		inFlight: opts.inFlight, records: opts.batch, bytes: int64(opts.batch * opts.size), most: opts.most,
		call: batch, end: conn.Close,
	}, nil
}

// openOrderedConsumer: an ordered pull consumer, which asks for -in-flight messages at a time.
func openOrderedConsumer(ctx context.Context, opts options) (work, error) {
	conn, err := natsConnect(opts.addrs[:1])
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(conn)
	if err != nil {
		return nil, err
	}
	// A consumer goes on where the last run left it, so that making one is no part of what is measured.
	var messages jetstream.MessagesContext
	var left int64
	read := func(until time.Time) (int64, error) {
		if left == 0 {
			if messages != nil {
				messages.Stop()
			}
			stream, err := js.Stream(ctx, opts.name)
			if err != nil {
				return 0, err
			}
			config := jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy}
			consumer, err := stream.OrderedConsumer(ctx, config)
			if err != nil {
				return 0, err
			}
			if messages, err = consumer.Messages(jetstream.PullMaxMessages(opts.inFlight)); err != nil {
				return 0, err
			}
			left = int64(stream.CachedInfo().State.Msgs)
		}
		var records int64
		for left > 0 {
			message, err := messages.Next()
			if err != nil {
				return 0, err
			}
			if len(message.Data()) != opts.size {
				return 0, fmt.Errorf("a message of %d bytes came", len(message.Data()))
			}
			left--
			if records++; records%100 == 0 && !time.Now().Before(until) {
				break
			}
		}
		return records, nil
	}
	return &consumption{read, conn.Close}, nil
}
