// What both programs share: options, the queue, the second argument of a job. They count as
// benchmarks/peers/kit.py does, and print the same line.
'use strict';

const { Queue } = require('bullmq');
const { Redis } = require('ioredis');

const CALLERS = 100;

function options() {
  const found = { limit: 60, feed: false };
  const words = process.argv.slice(2);
  while (words.length > 0) {
    const name = words.shift().slice(2);
    found[name] = name === 'feed' ? true : words.shift();
  }
  return { ...found, jobs: Number(found.jobs), limit: Number(found.limit) };
}

function connection(url) {
  return new Redis(url, { maxRetriesPerRequest: null });
}

function queue(url) {
  return new Queue('jobs', {
    connection: connection(url),
    defaultJobOptions: { removeOnComplete: true, removeOnFail: true },
  });
}

function text(number) {
  return `customer ${String(number).padStart(10, '0')}, ${'x'.repeat(64)}`;
}

function microseconds() {
  return Number(process.hrtime.bigint() / 1000n);
}

async function enqueue(jobs, name, total, callers) {
  const caller = async (first) => {
    for (let number = first; number < total; number += callers) {
      await jobs.add(name, { number, text: text(number) });
    }
  };
  const started = microseconds();
  await Promise.all(Array.from({ length: callers }, (_, first) => caller(first)));
  return (microseconds() - started) / 1e6;
}

module.exports = { CALLERS, connection, enqueue, microseconds, options, queue, text };
