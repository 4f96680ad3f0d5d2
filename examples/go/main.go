// A client of an ourolog cluster: appends lines in batches, each exactly once, and reads them back.
//
//	./generate.sh && go build -o client .
//	./client -addr 127.0.0.1:8400,127.0.0.1:8410,127.0.0.1:8420 produce < lines.txt
//	./client -addr 127.0.0.1:8420 consume
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"ourolog.example/client/logv1"
)

const (
	batchRecords = 100
	callTimeout  = 2 * time.Second
	giveUpAfter  = 30 * time.Second
	pause        = 100 * time.Millisecond
)

// Cluster calls whichever node leads, as far as it knows.
type Cluster struct {
	addrs []string // the node at the front is asked first
	conns map[string]*grpc.ClientConn
}

func (c *Cluster) node() (logv1.LogClient, error) {
	addr := c.addrs[0]
	if c.conns[addr] == nil {
		conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return nil, err
		}
		c.conns[addr] = conn
	}
	return logv1.NewLogClient(c.conns[addr]), nil
}

// goOn decides where to ask next: at the leader, if the error names one, or else at the next node.
func (c *Cluster) goOn(failure error) {
	for _, detail := range status.Convert(failure).Details() {
		if hint, ok := detail.(*logv1.LeaderHint); ok && hint.LeaderAddr != "" && hint.LeaderAddr != c.addrs[0] {
			addrs := []string{hint.LeaderAddr}
			for _, addr := range c.addrs {
				if addr != hint.LeaderAddr {
					addrs = append(addrs, addr)
				}
			}
			c.addrs = addrs
			return
		}
	}
	c.addrs = append(c.addrs[1:], c.addrs[0])
	time.Sleep(pause)
}

// retry makes a call until it succeeds. A call may have been carried out although its answer was lost; so only one
// that may be carried out twice is made here, such as a produce with a producer's id and a sequence number.
func (c *Cluster) retry(call func(context.Context, logv1.LogClient) error) error {
	for deadline := time.Now().Add(giveUpAfter); ; {
		node, err := c.node()
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
		err = call(ctx, node)
		cancel()
		switch status.Code(err) {
		case codes.OK, codes.InvalidArgument, codes.NotFound, codes.OutOfRange, codes.Unimplemented, codes.DataLoss:
			return err
		}
		if isFinal(err) || time.Now().After(deadline) {
			return err
		}
		c.goOn(err)
	}
}

// isFinal says whether asking again, here or elsewhere, cannot help: the cluster has forgotten this producer, or the
// batch, and would not know a second copy for one.
func isFinal(failure error) bool {
	for _, detail := range status.Convert(failure).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.Reason == "PRODUCER_EXPIRED" || info.Reason == "SEQUENCE_FORGOTTEN"
		}
	}
	return false
}

// Producer appends batches, each exactly once, however often it has to ask.
type Producer struct {
	cluster  *Cluster
	id       uint64
	sequence uint32
}

func newProducer(c *Cluster) (*Producer, error) {
	p := &Producer{cluster: c}
	err := c.retry(func(ctx context.Context, node logv1.LogClient) error {
		registered, err := node.RegisterProducer(ctx, &logv1.RegisterProducerRequest{})
		p.id = registered.GetProducerId()
		return err
	})
	return p, err
}

// append returns the offset of the first of these values.
func (p *Producer) append(values [][]byte) (uint64, error) {
	set := &logv1.RecordSet{}
	for _, value := range values {
		set.Records = append(set.Records, &logv1.Record{Value: value})
	}
	records, err := proto.Marshal(set)
	if err != nil {
		return 0, err
	}
	request := &logv1.ProduceBatchRequest{
		Records: records, RecordCount: uint32(len(values)), ProducerId: p.id, Sequence: p.sequence,
	}
	var answer *logv1.ProduceBatchResponse
	err = p.cluster.retry(func(ctx context.Context, node logv1.LogClient) (err error) {
		answer, err = node.ProduceBatch(ctx, request)
		return err
	})
	if err != nil {
		return 0, err
	}
	p.sequence++
	return answer.BaseOffset, nil
}

func produce(c *Cluster) error {
	producer, err := newProducer(c)
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	var values [][]byte
	for more := true; more; {
		if more = lines.Scan(); more {
			if line := lines.Bytes(); len(line) > 0 {
				values = append(values, append([]byte(nil), line...))
			}
		}
		if len(values) == batchRecords || (!more && len(values) > 0) {
			offset, err := producer.append(values)
			if err != nil {
				return err
			}
			fmt.Printf("%d records from offset %d on\n", len(values), offset)
			values = values[:0]
		}
	}
	return lines.Err()
}

func consume(c *Cluster) error {
	node, err := c.node()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), giveUpAfter)
	defer cancel()
	request := &logv1.ConsumeBatchRequest{StopAtEnd: true, Read: logv1.Read_READ_LATEST}
	stream, err := node.ConsumeBatchStream(ctx, request)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, batch := range response.Batches {
			var set logv1.RecordSet
			if err := proto.Unmarshal(batch.Records, &set); err != nil {
				return err
			}
			for _, record := range set.Records {
				fmt.Fprintf(out, "%s\n", record.Value)
			}
		}
	}
}

func main() {
	addrs := flag.String("addr", "127.0.0.1:8400", "gRPC addresses of nodes, with commas between")
	flag.Parse()
	cluster := &Cluster{strings.Split(*addrs, ","), map[string]*grpc.ClientConn{}}
	commands := map[string]func(*Cluster) error{"produce": produce, "consume": consume}
	command := commands[flag.Arg(0)]
	if command == nil || flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: client [-addr HOST:PORT,…] produce|consume")
		os.Exit(2)
	}
	if err := command(cluster); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}
