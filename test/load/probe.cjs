// Loaded into the agent's process by NODE_OPTIONS: tells its heap after a full collection, and can leak on purpose.
const { createServer } = require('node:net');
const { setFlagsFromString } = require('node:v8');
const { runInNewContext } = require('node:vm');

if (process.argv[2] === 'run' && process.env.VIFD_LOAD_PROBE !== undefined) {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc');
  const leaked = [];
  const server = createServer((socket) => {
    socket
      .unref()
      .setEncoding('utf8')
      .on('data', (text) => {
        for (const line of text.trim().split('\n')) {
          const [word, bytes] = line.split(' ');
          if (word === 'leak') leaked.push(Buffer.alloc(Number(bytes), 'x').toString('latin1'));
          else {
            collect();
            socket.write(`${JSON.stringify(process.memoryUsage())}\n`);
          }
        }
      });
  });
  server.listen(process.env.VIFD_LOAD_PROBE).unref();
}
