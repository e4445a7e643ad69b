// Publishes to itself at every QoS, small and 1 MB, and compares what comes back.
// The same in Node and in a browser: mqtt is MQTT.js.
function roundtrip(mqtt, url, options) {
  return new Promise((resolve, reject) => {
    const client = mqtt.connect(url, Object.assign({ protocolVersion: 5, reconnectPeriod: 0, connectTimeout: 10000 }, options));
    const sizes = [1, 1000, 1000000];
    let waiting = 0;
    client.on('error', reject);
    client.on('close', () => reject(new Error('closed too early')));
    client.on('message', (topic, payload) => {
      const [, qos, size] = topic.split('/');
      if (payload.length !== Number(size) || payload[0] !== Number(qos) || payload[payload.length - 1] !== Number(qos)) {
        reject(new Error('another payload on ' + topic));
      }
      if (--waiting === 0) {
        client.removeAllListeners('close');
        client.end(false, {}, () => resolve('ok'));
      }
    });
    client.on('connect', async () => {
      try {
        await client.subscribeAsync('roundtrip/#', { qos: 2 });
        for (const qos of [0, 1, 2]) {
          for (const size of sizes) {
            waiting++;
            client.publish('roundtrip/' + qos + '/' + size, new Uint8Array(size).fill(qos), { qos });
          }
        }
      } catch (err) {
        reject(err);
      }
    });
  });
}
if (typeof module !== 'undefined') {
  module.exports = roundtrip;
}
