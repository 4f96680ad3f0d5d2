package main

import (
	"context"

	"github.com/redis/go-redis/v9"
)

func redisClient(opts options) *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: opts.addrs[0], PoolSize: opts.inFlight, DisableIdentity: true, MaxRetries: -1,
	})
}

func entry(opts options, value []byte) *redis.XAddArgs {
	return &redis.XAddArgs{Stream: opts.name, Values: []any{"v", value}}
}

// openAdd: XADD, each caller waiting for its answer on a connection of its own.
func openAdd(ctx context.Context, opts options) (work, error) {
	client := redisClient(opts)
	pool := values(opts.size)
	return &calls{
		inFlight: opts.inFlight, records: 1, bytes: int64(opts.size), most: opts.most,
		call: func(_ int, number int64) error {
			return client.XAdd(ctx, entry(opts, pool[number%distinct])).Err()
		},
		end: func() { client.Close() },
	}, client.Ping(ctx).Err()
}

// openPipeline: -batch XADDs at once, over -in-flight connections.
func openPipeline(ctx context.Context, opts options) (work, error) {
	client := redisClient(opts)
	pool := values(opts.size)
	return &calls{
		inFlight: opts.inFlight, records: opts.batch, bytes: int64(opts.batch * opts.size), most: opts.most,
		call: func(_ int, number int64) error {
			_, err := client.Pipelined(ctx, func(pipeline redis.Pipeliner) error {
				for at := range opts.batch {
					pipeline.XAdd(ctx, entry(opts, pool[(number+int64(at))%distinct]))
				}
				return nil
			})
			return err
		},
		end: func() { client.Close() },
	}, client.Ping(ctx).Err()
}
