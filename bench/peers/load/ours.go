package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"ourolog.example/bench/load/logv1"
)

const mostMessageBytes = 64 << 20

func dial(addr string) (*grpc.ClientConn, error) {
	return grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(mostMessageBytes)))
}

// openProduce: unary Produce, one record a call.
func openProduce(ctx context.Context, opts options) (work, error) {
	var conns []*grpc.ClientConn
	var clients []logv1.LogClient
	for range opts.connections {
		conn, err := dial(opts.addrs[0])
		if err != nil {
			return nil, err
		}
		conns = append(conns, conn)
		clients = append(clients, logv1.NewLogClient(conn))
	}
	pool := values(opts.size)
	return &calls{
		inFlight: opts.inFlight, records: 1, bytes: int64(opts.size), most: opts.most,
		call: func(caller int, number int64) error {
			record := &logv1.Record{Value: pool[number%distinct]}
			_, err := clients[caller%len(clients)].Produce(ctx, &logv1.ProduceRequest{Record: record})
			return err
		},
		end: func() {
			for _, conn := range conns {
				conn.Close()
			}
		},
	}, nil
}

// openBatches: ProduceBatchStream, the records of each batch encoded when it is sent.
func openBatches(ctx context.Context, opts options) (work, error) {
	conn, err := dial(opts.addrs[0])
	if err != nil {
		return nil, err
	}
	client := logv1.NewLogClient(conn)
	var producer uint64
	if opts.idempotent {
		registered, err := client.RegisterProducer(ctx, &logv1.RegisterProducerRequest{})
		if err != nil {
			return nil, err
		}
		producer = registered.ProducerId
	}
	stream, err := client.ProduceBatchStream(ctx)
	if err != nil {
		return nil, err
	}
	room := make(chan struct{}, opts.inFlight)
	failed := make(chan error, 1)
	go func() {
		for {
			answer, err := stream.Recv()
			if err == nil && int(answer.RecordCount) != opts.batch {
				err = fmt.Errorf("%d records were acknowledged of a batch of %d", answer.RecordCount, opts.batch)
			}
			if err != nil {
				failed <- err
				return
			}
			<-room
		}
	}()
	pool := values(opts.size)
	set := &logv1.RecordSet{}
	for range opts.batch {
		set.Records = append(set.Records, &logv1.Record{})
	}
	acquire := func() error {
		select {
		case room <- struct{}{}:
			return nil
		case err := <-failed:
			return err
		}
	}
	return &pump{
		records: opts.batch, bytes: int64(opts.batch * opts.size), most: opts.most,
		send: func(number int64) error {
			for at, record := range set.Records {
				record.Value = pool[(number+int64(at))%distinct]
			}
			encoded, err := proto.Marshal(set)
			if err != nil {
				return err
			}
			if err := acquire(); err != nil {
				return err
			}
			request := &logv1.ProduceBatchRequest{Records: encoded, RecordCount: uint32(opts.batch)}
			if opts.idempotent {
				request.ProducerId, request.Sequence = producer, uint32(number)
			}
			err = stream.Send(request)
			if errors.Is(err, io.EOF) { // the reason is what Recv says
				return <-failed
			}
			return err
		},
		settle: func() error {
			for range opts.inFlight {
				if err := acquire(); err != nil {
					return err
				}
			}
			for range opts.inFlight {
				<-room
			}
			return nil
		},
		end: func() {
			stream.CloseSend()
			conn.Close()
		},
	}, nil
}

// consumption reads a log over and over until the time is up.
type consumption struct {
	read func(until time.Time) (int64, error) // from the beginning to the end, or until then
	end  func()
}

func (c *consumption) run(until time.Time) (done, error) {
	var records int64
	for time.Now().Before(until) {
		count, err := c.read(until)
		if err != nil {
			return done{}, err
		}
		if count == 0 {
			return done{}, errors.New("there was nothing to consume")
		}
		records += count
	}
	return done{records: records}, nil
}

func (c *consumption) close() { c.end() }

// openConsume: ConsumeBatchStream, every record decoded.
func openConsume(ctx context.Context, opts options) (work, error) {
	conn, err := dial(opts.addrs[0])
	if err != nil {
		return nil, err
	}
	client := logv1.NewLogClient(conn)
	read := func(until time.Time) (int64, error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := client.ConsumeBatchStream(ctx, &logv1.ConsumeBatchRequest{Offset: opts.offset, StopAtEnd: true})
		if err != nil {
			return 0, err
		}
		var records int64
		next := opts.offset
		for more := true; more; more = time.Now().Before(until) && (opts.records == 0 || records < opts.records) {
			answer, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return 0, err
			}
			for _, batch := range answer.Batches {
				var set logv1.RecordSet
				if err := proto.Unmarshal(batch.Records, &set); err != nil {
					return 0, err
				}
				if batch.BaseOffset > next || len(set.Records) != int(batch.RecordCount) {
					return 0, fmt.Errorf("offset %d was expected, and %d records came from %d on", next, len(set.Records), batch.BaseOffset)
				}
				next = batch.BaseOffset + uint64(batch.RecordCount)
				records += int64(len(set.Records))
			}
		}
		return records, nil
	}
	return &consumption{read, func() { conn.Close() }}, nil
}
