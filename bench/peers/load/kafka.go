package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// createTopic makes the topic, one partition on three brokers, with the -config of the command line.
func createTopic(ctx context.Context, opts options) (any, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(opts.addrs...))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	configs := map[string]*string{}
	for _, pair := range strings.FieldsFunc(opts.config, func(r rune) bool { return r == ',' }) {
		key, value, _ := strings.Cut(pair, "=")
		configs[key] = &value
	}
	admin := kadm.NewClient(client)
	_, err = admin.CreateTopic(ctx, 1, 3, configs, opts.name)
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return nil, err
	}
	for {
		topics, err := admin.ListTopics(ctx, opts.name)
		if err != nil {
			return nil, err
		}
		if partition, ok := topics[opts.name].Partitions[0]; ok && partition.Leader >= 0 && len(partition.ISR) == 3 {
			return map[string]any{"leader": fmt.Sprint(partition.Leader)}, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func kafkaProducer(opts options) (*kgo.Client, error) {
	most := opts.batch * (opts.size + 32)
	// Batches are numbered (franz-go's default), and then five requests may be under way at once.
	return kgo.NewClient(
		kgo.SeedBrokers(opts.addrs...), kgo.DefaultProduceTopic(opts.name), kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerLinger(opts.linger), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.ProducerBatchMaxBytes(int32(max(most, 64<<10))), kgo.MaxBufferedRecords(max(10_000, 6*opts.batch)),
	)
}

// openKafkaProduce: one record at a time for each caller, acks=all.
func openKafkaProduce(ctx context.Context, opts options) (work, error) {
	client, err := kafkaProducer(opts)
	if err != nil {
		return nil, err
	}
	pool := values(opts.size)
	return &calls{
		inFlight: opts.inFlight, records: 1, bytes: int64(opts.size), most: opts.most,
		call: func(_ int, number int64) error {
			return client.ProduceSync(ctx, &kgo.Record{Value: pool[number%distinct]}).FirstErr()
		},
		end: client.Close,
	}, nil
}

// openKafkaBulk: records handed to the producer, which makes batches of up to -batch records by itself.
func openKafkaBulk(ctx context.Context, opts options) (work, error) {
	client, err := kafkaProducer(opts)
	if err != nil {
		return nil, err
	}
	pool := values(opts.size)
	var failure atomic.Pointer[error]
	check := func() error {
		if found := failure.Load(); found != nil {
			return *found
		}
		return nil
	}
	answered := func(_ *kgo.Record, err error) {
		if err != nil {
			failure.Store(&err)
		}
	}
	return &pump{
		records: 1, bytes: int64(opts.size), most: opts.most,
		send: func(number int64) error {
			client.Produce(ctx, &kgo.Record{Value: pool[number%distinct]}, answered)
			return check()
		},
		settle: func() error {
			if err := client.Flush(ctx); err != nil {
				return err
			}
			return check()
		},
		end: client.Close,
	}, nil
}

// openKafkaConsume: the partition from its beginning on, from its leader.
func openKafkaConsume(ctx context.Context, opts options) (work, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(opts.addrs...))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, opts.name)
	if err != nil {
		return nil, err
	}
	end, ok := ends.Lookup(opts.name, 0)
	if !ok {
		return nil, fmt.Errorf("there is no topic %s", opts.name)
	}
	// A reader goes on where the last run left it, so that making one is no part of what is measured.
	var reader *kgo.Client
	left := int64(0)
	stop := func() {
		if reader != nil {
			reader.Close()
		}
	}
	read := func(until time.Time) (int64, error) {
		if left <= 0 {
			stop()
			from := map[string]map[int32]kgo.Offset{opts.name: {0: kgo.NewOffset().AtStart()}}
			if reader, err = kgo.NewClient(kgo.SeedBrokers(opts.addrs...), kgo.ConsumePartitions(from)); err != nil {
				return 0, err
			}
			left = end.Offset
		}
		var records int64
		for more := true; more; more = left > 0 && time.Now().Before(until) {
			fetches := reader.PollFetches(ctx)
			if err := fetches.Err(); err != nil {
				return 0, err
			}
			records += int64(fetches.NumRecords())
			left -= int64(fetches.NumRecords())
		}
		return records, nil
	}
	return &consumption{read, stop}, nil
}
