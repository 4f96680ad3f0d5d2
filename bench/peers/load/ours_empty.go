package main

import (
	"context"
	"io"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"ourolog.example/bench/load/logv1"
)

// emptyLog answers every call at once and keeps nothing: what a generator reaches here, it could have sent.
type emptyLog struct {
	logv1.UnimplementedLogServer
	addr  string
	batch *logv1.RecordBatch // what consumers get, again and again
}

const (
	emptyBatches    = 10_000
	batchesInAnswer = 10 // about a MiB, as a node does
)

func (*emptyLog) Produce(context.Context, *logv1.ProduceRequest) (*logv1.ProduceResponse, error) {
	return &logv1.ProduceResponse{Offset: 1}, nil
}

func (*emptyLog) ProduceBatch(_ context.Context, request *logv1.ProduceBatchRequest) (*logv1.ProduceBatchResponse, error) {
	return &logv1.ProduceBatchResponse{BaseOffset: 1, RecordCount: request.RecordCount}, nil
}

func (*emptyLog) ProduceBatchStream(stream grpc.BidiStreamingServer[logv1.ProduceBatchRequest, logv1.ProduceBatchResponse]) error {
	for {
		request, err := stream.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		answer := &logv1.ProduceBatchResponse{BaseOffset: 1, RecordCount: request.RecordCount}
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
}

func (e *emptyLog) ConsumeBatchStream(request *logv1.ConsumeBatchRequest, stream grpc.ServerStreamingServer[logv1.ConsumeBatchResponse]) error {
	var batches []*logv1.RecordBatch
	for number := range uint64(emptyBatches) {
		batch := &logv1.RecordBatch{
			BaseOffset: request.Offset + number*uint64(e.batch.RecordCount), RecordCount: e.batch.RecordCount, Records: e.batch.Records,
		}
		batches = append(batches, batch)
		if len(batches) < batchesInAnswer {
			continue
		}
		if err := stream.Send(&logv1.ConsumeBatchResponse{Batches: batches}); err != nil {
			return err
		}
		batches = nil
	}
	return nil
}

func (*emptyLog) RegisterProducer(context.Context, *logv1.RegisterProducerRequest) (*logv1.RegisterProducerResponse, error) {
	return &logv1.RegisterProducerResponse{ProducerId: 1}, nil
}

func (e *emptyLog) GetServers(context.Context, *logv1.GetServersRequest) (*logv1.GetServersResponse, error) {
	return &logv1.GetServersResponse{Servers: []*logv1.Server{{Id: "empty", RpcAddr: e.addr, IsLeader: true}}}, nil
}

// serveEmpty serves on the address until it is killed.
func serveEmpty(_ context.Context, opts options) (any, error) {
	set := &logv1.RecordSet{}
	pool := values(opts.size)
	for at := range opts.batch {
		set.Records = append(set.Records, &logv1.Record{Value: pool[at%distinct]})
	}
	encoded, err := proto.Marshal(set)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", opts.addrs[0])
	if err != nil {
		return nil, err
	}
	server := grpc.NewServer(grpc.MaxRecvMsgSize(mostMessageBytes))
	batch := &logv1.RecordBatch{RecordCount: uint32(opts.batch), Records: encoded}
	logv1.RegisterLogServer(server, &emptyLog{addr: opts.addrs[0], batch: batch})
	return "stopped", server.Serve(listener)
}
