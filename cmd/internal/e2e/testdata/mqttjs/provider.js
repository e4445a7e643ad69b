// An OpenID provider: says "listening PORT"; USR2 exchanges its key, and is answered by "rotated".
// Clients get access tokens as JWT for the audience mqtt by client credentials.
'use strict'
const crypto = require('node:crypto')
const http = require('node:http')
const path = require('node:path')

async function main () {
  const { default: Provider } = await import(path.join(process.env.NODE_PATH, 'oidc-provider', 'lib', 'index.js'))
  let handle
  const server = http.createServer((request, response) => handle(request, response))
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve))
  const port = server.address().port
  let keys = 0
  const begin = () => {
    const { privateKey } = crypto.generateKeyPairSync('rsa', { modulusLength: 2048 })
    const client = id => ({ client_id: id, client_secret: 'secret', grant_types: ['client_credentials'], redirect_uris: [], response_types: [] })
    const provider = new Provider(`http://127.0.0.1:${port}`, {
      clients: [client('ada'), client('bob')],
      jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), kid: `key${++keys}`, use: 'sig', alg: 'RS256' }] },
      scopes: ['press'],
      features: {
        devInteractions: { enabled: false },
        clientCredentials: { enabled: true },
        resourceIndicators: {
          enabled: true,
          defaultResource: () => 'urn:mqtt',
          useGrantedResource: () => true,
          getResourceServerInfo: () => ({ scope: 'press', audience: 'mqtt', accessTokenFormat: 'jwt', accessTokenTTL: 3600, jwt: { sign: { alg: 'RS256' } } })
        }
      }
    })
    handle = provider.callback()
  }
  begin()
  console.log(`listening ${port}`)
  process.on('SIGUSR2', () => { begin(); console.log('rotated') })
}

main().catch(error => { console.error(error); process.exit(1) })
