// Works: no-ops, sleeps, or jobs of `pickup` that a second process sends.
'use strict';

const { spawn } = require('node:child_process');
const path = require('node:path');
const { Worker } = require('bullmq');
const { CALLERS, connection, enqueue, microseconds, options, queue } = require('./kit.js');

const CONCURRENCY = 1000;
const WARM = 100;

function rank(sorted, percent) {
  return sorted[Math.ceil((sorted.length * percent) / 100) - 1] / 1000;
}

async function main() {
  const { jobs: total, limit, shape, url } = options();
  if (shape === 'limited') throw new Error('its groups are a part of BullMQ Pro, which is sold');
  const jobs = queue(url);
  await jobs.waitUntilReady();
  const late = [];
  let left = shape === 'pickup' ? total + WARM : total;
  let started;
  if (shape !== 'pickup') await enqueue(jobs, shape, total, CALLERS);

  let ring;
  const allRun = new Promise((resolve) => {
    ring = resolve;
  });
  const run = async (job) => {
    const now = microseconds();
    started ??= now;
    if (job.name === 'pickup' && job.data.text !== 'warm') late.push(now - job.data.number);
    if (job.name === 'sleep') await new Promise((resolve) => setTimeout(resolve, 100));
    left -= 1;
    if (left === 0) ring(microseconds());
  };
  const worker = new Worker('jobs', run, {
    connection: connection(url),
    concurrency: CONCURRENCY,
    removeOnComplete: { count: 0 },
    removeOnFail: { count: 0 },
  });
  await worker.waitUntilReady();
  if (shape === 'pickup') {
    await new Promise((resolve) => setTimeout(resolve, 1000)); // until it waits for a job
    const words = [path.join(__dirname, 'enqueue.js'), ...process.argv.slice(2), '--feed'];
    const feeder = spawn(process.execPath, words, { stdio: ['ignore', 'ignore', 'inherit'] });
    process.on('exit', () => feeder.kill());
  }
  setTimeout(() => {
    console.error(`${left} of ${total} jobs were not done in ${limit} s`);
    process.exit(1);
  }, limit * 1000);
  const ended = await allRun;
  if (shape === 'pickup') {
    late.sort((one, other) => one - other);
    console.log(JSON.stringify({ p50_ms: rank(late, 50), p95_ms: rank(late, 95), p99_ms: rank(late, 99) }));
  } else {
    console.log(JSON.stringify({ seconds: (ended - started) / 1e6 }));
  }
  process.exit(0);
}

main().catch((error) => {
  console.error(String(error));
  process.exit(1);
});
