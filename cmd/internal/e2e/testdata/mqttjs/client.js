// One MQTT.js client for the end-to-end tests. The only argument is a JSON object (mqttjsRequest in mqttjs_test.go):
// with "filter" it subscribes and prints one JSON line per message until SIGTERM, with "topic" it publishes standard input.
'use strict'
const fs = require('fs')
const mqtt = require('mqtt')

const request = JSON.parse(process.argv[2])
const say = (value) => process.stdout.write(JSON.stringify(value) + '\n')
const fail = (error) => {
  console.error(error)
  process.exit(1)
}

const options = {
  host: '127.0.0.1',
  port: request.port,
  protocol: 'mqtt',
  protocolVersion: request.version,
  protocolId: request.version === 3 ? 'MQIsdp' : 'MQTT',
  clientId: request.clientId,
  clean: !request.expiry,
  reconnectPeriod: 0
}
if (request.version === 5 && request.expiry) {
  options.properties = { sessionExpiryInterval: request.expiry }
}
if (request.will) {
  options.will = { ...request.will, payload: Buffer.from(request.will.payload) }
}

const client = mqtt.connect(options)
client.on('error', fail)
client.on('message', (topic, payload, packet) => {
  say({ topic, payload: payload.toString('base64'), qos: packet.qos, retain: packet.retain })
})
client.once('connect', () => {
  if (request.filter) {
    client.subscribe(request.filter, { qos: request.qos }, (error, granted) => {
      if (error || granted.some((g) => g.qos > 2)) fail(error || granted)
      say({ subscribed: true })
    })
  } else {
    const payload = fs.readFileSync(0)
    client.publish(request.topic, payload, { qos: request.qos, retain: request.retain }, (error) => {
      if (error) fail(error)
      client.end(false, () => process.exit(0))
    })
  }
})
process.on('SIGTERM', () => {
  client.removeListener('error', fail) // an acknowledgement may be on its way into the closing connection
  client.on('error', () => {})
  client.end(false, () => process.exit(0))
})
