// node node.js URL [CA file]
const fs = require('fs');
const [url, ca] = process.argv.slice(2);
const options = ca ? { ca: fs.readFileSync(ca), rejectUnauthorized: true } : {};
require('./roundtrip.js')(require('mqtt'), url, Object.assign(options, { transformWsUrl: (u) => u })).then(
  (said) => { console.log(said); process.exit(0); },
  (err) => { console.error(err); process.exit(1); });
