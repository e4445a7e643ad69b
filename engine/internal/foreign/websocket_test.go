package foreign

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/engine"
	"github.com/wheelmq/wheelmq/engine/internal/certs/certtest"
)

func TestMQTTJSInNode(t *testing.T) {
	t.Parallel()
	a := certtest.New(t, "authority")
	env := []string{"NODE_PATH=" + mqttjs(t)}
	f := func(url string, more ...string) {
		t.Helper()
		out, err := run(t, nil, env, "node", append([]string{"testdata/node.js", url}, more...)...)
		if err != nil || out != "ok\n" {
			t.Errorf("%s: %v, %s", url, err, out)
		}
	}
	f("ws://127.0.0.1:" + port(startBroker(t, nil, engine.Listener{WebSocket: &engine.WebSocket{}})) + "/mqtt")
	f("wss://localhost:"+port(startBroker(t, nil, engine.Listener{WebSocket: &engine.WebSocket{}, TLS: serverTLS(a)}))+"/mqtt", a.File)
	all := startBroker(t, nil, engine.Listener{WebSocket: &engine.WebSocket{}, TLS: serverTLS(a), Detect: true})
	f("ws://127.0.0.1:" + port(all) + "/mqtt")
	f("wss://localhost:"+port(all)+"/mqtt", a.File)
	f("mqtt://127.0.0.1:" + port(all))
	f("mqtts://localhost:"+port(all), a.File)
}

// TestMQTTJSInChromium: a page connects by wss, from an origin that may.
func TestMQTTJSInChromium(t *testing.T) {
	t.Parallel()
	said := make(chan string, 2)
	mux := http.NewServeMux()
	mux.Handle("/", http.FileServer(http.Dir("testdata")))
	mux.HandleFunc("/mqtt.min.js", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, filepath.Join(mqttjs(t), "mqtt", "dist", "mqtt.min.js"))
	})
	mux.HandleFunc("POST /said", func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		said <- string(b)
	})
	pages := httptest.NewServer(mux)
	defer pages.Close()

	a := certtest.New(t, "authority")
	server := serverTLS(a)
	w := &watcher{}
	b := startBroker(t, w, engine.Listener{TLS: server, WebSocket: &engine.WebSocket{Origins: []string{pages.URL}}})
	page := pages.URL + "/page.html?url=" + url.QueryEscape("wss://localhost:"+port(b)+"/mqtt")
	start(t, "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--remote-debugging-port=0", "--user-data-dir="+t.TempDir(),
		"--ignore-certificate-errors-spki-list="+publicKeyHash(t, server.Certificates[0].CertificateFile), page)
	select {
	case got := <-said:
		if got != "ok" {
			t.Errorf("the page says %s", got)
		}
	case <-time.After(patience):
		t.Fatal("the page says nothing")
	}
	if got := w.last(t); got.TLS == nil || got.TLS.NegotiatedProtocol != "http/1.1" {
		t.Errorf("the hook was told %+v", got)
	}
}

// publicKeyHash is how Chromium is told to trust a certificate.
func publicKeyHash(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// TestBehindNginx: the WebSocket passes, and stays open while it is idle for
// longer than nginx allows, since the broker pings.
func TestBehindNginx(t *testing.T) {
	t.Parallel()
	b := startBroker(t, nil, engine.Listener{WebSocket: &engine.WebSocket{PingInterval: 500 * time.Millisecond}})
	front, dir := freePort(t), t.TempDir()
	config := write(t, "nginx.conf", fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log stderr;
events {}
http {
	access_log off; client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s;
	server {
		listen 127.0.0.1:%[2]s;
		location /mqtt {
			proxy_pass http://127.0.0.1:%[3]s;
			proxy_http_version 1.1;
			proxy_set_header Upgrade $http_upgrade;
			proxy_set_header Connection upgrade;
			proxy_read_timeout 2s;
		}
	}
}`, dir, front, port(b)))
	start(t, "nginx", "-c", config, "-p", dir)
	await(t, front)
	env := []string{"NODE_PATH=" + mqttjs(t)}
	if out, err := run(t, nil, env, "node", "testdata/node.js", "ws://127.0.0.1:"+front+"/mqtt"); err != nil || out != "ok\n" {
		t.Errorf("%v, %s", err, out)
	}
	script := `const c = require('mqtt').connect('ws://127.0.0.1:` + front + `/mqtt', {keepalive: 0, reconnectPeriod: 0});
c.on('connect', () => setTimeout(() => { console.log('open'); process.exit(0) }, 5000));
c.on('close', () => { console.log('closed'); process.exit(1) })`
	if out, err := run(t, bytes.NewBufferString(script), env, "node", "-"); err != nil || out != "open\n" {
		t.Errorf("idle for 5 s behind a proxy that allows 2: %v, %s", err, out)
	}
}
