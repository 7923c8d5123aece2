// A flow: many no-ops, and one job behind them. It is stored while a worker waits for jobs.
'use strict';

const { FlowProducer, Worker } = require('bullmq');
const { connection, microseconds, options, text } = require('./kit.js');

const CONCURRENCY = 1000;

async function main() {
  const { jobs: total, limit, url } = options();
  let ring;
  const allRun = new Promise((resolve) => {
    ring = resolve;
  });
  const run = async (job) => {
    if (job.name === 'last') ring(microseconds());
  };
  const worker = new Worker('jobs', run, {
    connection: connection(url),
    concurrency: CONCURRENCY,
    removeOnComplete: { count: 0 },
    removeOnFail: { count: 0 },
  });
  await worker.waitUntilReady();
  const producer = new FlowProducer({ connection: connection(url) });
  await producer.waitUntilReady();
  await new Promise((resolve) => setTimeout(resolve, 1000)); // until it waits for a job
  setTimeout(() => {
    console.error(`the last job has not run in ${limit} s`);
    process.exit(1);
  }, limit * 1000);
  const started = microseconds();
  const opts = { removeOnComplete: true, removeOnFail: true };
  await producer.add({
    name: 'last',
    queueName: 'jobs',
    opts,
    children: Array.from({ length: total }, (_, number) => ({
      name: 'child',
      queueName: 'jobs',
      data: { number, text: text(number) },
      opts,
    })),
  });
  const ended = await allRun;
  console.log(JSON.stringify({ seconds: (ended - started) / 1e6 }));
  process.exit(0);
}

main().catch((error) => {
  console.error(String(error));
  process.exit(1);
});
