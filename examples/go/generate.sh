#!/bin/sh
# Generates logv1/ from ../../proto/log.proto. Needs go and a protoc: the one in PROTOC, or else `protoc`.
set -eu
cd "$(dirname "$0")"
mkdir -p bin logv1
go build -o bin/ google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc
PATH="$PWD/bin:$PATH" ${PROTOC:-protoc} -I ../../proto --go_out=logv1 --go-grpc_out=logv1 \
	--go_opt=paths=source_relative,Mlog.proto=ourolog.example/client/logv1 \
	--go-grpc_opt=paths=source_relative,Mlog.proto=ourolog.example/client/logv1 log.proto
