// Command mochi-main is mochi-mqtt as a broker for the comparison: one listener, anyone may connect, no log, limits raised.
package main

import (
	"crypto/tls"
	"flag"
	"io"
	"log"
	"log/slog"
	"math"
	"os"
	"os/signal"
	"syscall"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
)

func main() {
	tcp := flag.String("tcp", "", "address for MQTT on TCP")
	ws := flag.String("ws", "", "address for MQTT on WebSocket")
	secure := flag.String("tls", "", "address for MQTT on TLS")
	cert := flag.String("cert", "", "certificate, a PEM file")
	key := flag.String("key", "", "its key, a PEM file")
	flag.Parse()
	capabilities := mqtt.NewDefaultServerCapabilities()
	capabilities.MaximumInflight = math.MaxUint16
	capabilities.ReceiveMaximum = math.MaxUint16
	server := mqtt.New(&mqtt.Options{Capabilities: capabilities, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	check(server.AddHook(new(auth.AllowHook), nil))
	if *tcp != "" {
		check(server.AddListener(listeners.NewTCP(listeners.Config{ID: "t", Address: *tcp})))
	}
	if *ws != "" {
		check(server.AddListener(listeners.NewWebsocket(listeners.Config{ID: "w", Address: *ws})))
	}
	if *secure != "" {
		pair, err := tls.LoadX509KeyPair(*cert, *key)
		check(err)
		check(server.AddListener(listeners.NewTCP(listeners.Config{ID: "s", Address: *secure, TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair}}})))
	}
	check(server.Serve())
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	<-stop
	check(server.Close())
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
