// Enqueues: with many callers or one, or, for the shape `pickup`, one job each 10 ms at planned
// moments, whether or not the one before has been answered.
'use strict';

const { CALLERS, enqueue, microseconds, options, queue, text } = require('./kit.js');

const GAP_US = 10_000;
const WARM = 100;

function until(planned) {
  return new Promise((resolve) => {
    const look = () => (microseconds() >= planned ? resolve() : setImmediate(look));
    // Timers have milliseconds: sleep short of the moment, then look often.
    setTimeout(look, Math.max(0, (planned - microseconds()) / 1000 - 2));
  });
}

async function feed(jobs, total) {
  const first = microseconds() + 100_000;
  const sent = [];
  for (let number = 0; number < total + WARM; number += 1) {
    const planned = first + number * GAP_US;
    await until(planned);
    const word = number < WARM ? 'warm' : text(number);
    sent.push(jobs.add('pickup', { number: planned, text: word }));
  }
  await Promise.all(sent);
}

async function main() {
  const { feed: feeding, jobs: total, shape, url } = options();
  const jobs = queue(url);
  await jobs.waitUntilReady();
  if (feeding) {
    await feed(jobs, total);
  } else {
    const callers = shape.endsWith('one caller') ? 1 : CALLERS;
    // Scripts are loaded before the clock starts.
    await enqueue(jobs, 'noop', 2 * callers, callers);
    const seconds = await enqueue(jobs, 'noop', total, callers);
    console.log(JSON.stringify({ seconds }));
  }
  process.exit(0);
}

main().catch((error) => {
  console.error(String(error));
  process.exit(1);
});
