package main

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// openPut: Put under a key that is new each time, as a record is new each time.
func openPut(ctx context.Context, opts options) (work, error) {
	var clients []*clientv3.Client
	for range opts.connections {
		client, err := clientv3.New(clientv3.Config{Endpoints: opts.addrs[:1], Context: ctx, Logger: zap.NewNop()})
		if err != nil {
			return nil, err
		}
		clients = append(clients, client)
	}
	// Where earlier samples ended: keys of this one come after theirs.
	status, err := clients[0].Status(ctx, opts.addrs[0])
	if err != nil {
		return nil, err
	}
	pool := values(opts.size)
	texts := make([]string, len(pool))
	for at, value := range pool {
		texts[at] = string(value)
	}
	first := status.Header.Revision
	return &calls{
		inFlight: opts.inFlight, records: 1, bytes: int64(opts.size), most: opts.most,
		call: func(caller int, number int64) error {
			_, err := clients[caller%len(clients)].Put(ctx, fmt.Sprintf("%016x", first+number), texts[number%distinct])
			return err
		},
		end: func() {
			for _, client := range clients {
				client.Close()
			}
		},
	}, nil
}
