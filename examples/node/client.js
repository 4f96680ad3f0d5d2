// A client of an ourolog cluster: appends lines in batches, each exactly once, and reads them back.
//
//   npm ci
//   node client.js 127.0.0.1:8400,127.0.0.1:8410,127.0.0.1:8420 produce < lines.txt
//   node client.js 127.0.0.1:8420 consume

import { once } from "node:events";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const BATCH_RECORDS = 100;
const CALL_TIMEOUT_MS = 2_000;
const GIVE_UP_AFTER_MS = 30_000;
const PAUSE_MS = 100;
const { INVALID_ARGUMENT, NOT_FOUND, OUT_OF_RANGE, UNIMPLEMENTED, DATA_LOSS } = grpc.status;
const FINAL = new Set([INVALID_ARGUMENT, NOT_FOUND, OUT_OF_RANGE, UNIMPLEMENTED, DATA_LOSS]);
const FORGOTTEN = new Set(["PRODUCER_EXPIRED", "SEQUENCE_FORGOTTEN"]);

// Generated from the contract when the program starts. Numbers of 64 bits come as strings: a double has only 53.
const file = (path) => fileURLToPath(new URL(path, import.meta.url));
const contract = loadSync([file("../../proto/log.proto"), file("errors.proto")], { longs: String, defaults: true });
const { Log } = grpc.loadPackageDefinition(contract).log.v1;
const RecordSet = contract["log.v1.RecordSet"];

const deadline = (ms) => ({ deadline: Date.now() + ms });

/** The detail of that type, "log.v1.LeaderHint" for instance, in an error of gRPC's; undefined if it has none. */
function detailOf(error, type) {
  const [encoded] = error.metadata?.get("grpc-status-details-bin") ?? [];
  if (!encoded) return undefined;
  const { details } = contract["google.rpc.Status"].deserialize(encoded);
  const found = details?.find(({ typeUrl }) => typeUrl.endsWith(`/${type}`));
  return found && contract[type].deserialize(found.value);
}

/** Calls whichever node leads, as far as it knows. */
class Cluster {
  constructor(addrs) {
    this.addrs = addrs; // the node at the front is asked first
    this.nodes = new Map();
  }

  get node() {
    const [addr] = this.addrs;
    if (!this.nodes.has(addr)) this.nodes.set(addr, new Log(addr, grpc.credentials.createInsecure()));
    return this.nodes.get(addr);
  }

  /** Decide where to ask next: at the leader, if the error names one, or else at the next node. */
  async goOn(error) {
    const leader = detailOf(error, "log.v1.LeaderHint")?.leaderAddr;
    if (leader && leader !== this.addrs[0]) {
      this.addrs = [leader, ...this.addrs.filter((addr) => addr !== leader)];
    } else {
      this.addrs.push(this.addrs.shift());
      await sleep(PAUSE_MS);
    }
  }

  /**
   * Make a call until it succeeds. A call may have been carried out although its answer was lost; so only one that
   * may be carried out twice is made here, such as a produce with a producer's id and a sequence number.
   */
  async retry(method, request) {
    for (const giveUp = Date.now() + GIVE_UP_AFTER_MS; ; ) {
      const { error, response } = await new Promise((resolve) => {
        const { node } = this;
        node[method](request, deadline(CALL_TIMEOUT_MS), (error, response) => resolve({ error, response }));
      });
      if (!error) return response;
      const isForgotten = FORGOTTEN.has(detailOf(error, "google.rpc.ErrorInfo")?.reason);
      if (FINAL.has(error.code) || isForgotten || Date.now() > giveUp) throw error;
      await this.goOn(error);
    }
  }

  close() {
    for (const node of this.nodes.values()) node.close();
  }
}

async function produce(cluster) {
  const { producerId } = await cluster.retry("registerProducer", {});
  let sequence = 0;
  let values = [];
  const append = async () => {
    const records = RecordSet.serialize({ records: values.map((value) => ({ value })) });
    const request = { records, recordCount: values.length, producerId, sequence };
    const { baseOffset } = await cluster.retry("produceBatch", request);
    console.log(`${values.length} records from offset ${baseOffset} on`);
    sequence += 1;
    values = [];
  };
  for await (const line of createInterface({ input: process.stdin })) {
    if (line) values.push(Buffer.from(line));
    if (values.length === BATCH_RECORDS) await append();
  }
  if (values.length) await append();
}

async function consume(cluster) {
  const request = { stopAtEnd: true, read: "READ_LATEST" };
  for await (const { batches } of cluster.node.consumeBatchStream(request, deadline(GIVE_UP_AFTER_MS))) {
    for (const batch of batches) {
      const text = RecordSet.deserialize(batch.records).records.map(({ value }) => `${value}\n`).join("");
      if (!process.stdout.write(text)) await once(process.stdout, "drain");
    }
  }
}

const [addrs, command, ...rest] = process.argv.slice(2);
const run = { produce, consume }[command];
if (!run || rest.length) {
  console.error("usage: node client.js HOST:PORT[,…] produce|consume");
  process.exit(2);
}
const cluster = new Cluster(addrs.split(","));
try {
  await run(cluster);
} catch (error) {
  console.error(`error: ${error.message}`);
  process.exitCode = 1;
} finally {
  cluster.close();
}
