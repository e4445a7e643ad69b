package main

import (
	"io"
	"os"

	"github.com/spf13/cobra"
)

const longHelp = `wheelmq is an MQTT broker for MQTT 5.0, 3.1.1 and 3.1.

Started without flags it listens on port 1883 of the loopback addresses, where
any program on this machine may connect without a password.`

const examples = `  wheelmq                                        this machine only, port 1883
  wheelmq --listen 127.0.0.1:2883                this machine only, another port
  wheelmq --listen :1883 --allow-anonymous       every network of this machine, no passwords`

// newRoot returns the command wheelmq, which runs the broker; sub-commands are added to it.
func newRoot(stdout, stderr io.Writer) *cobra.Command {
	var flags brokerFlags
	root := &cobra.Command{
		Use:           "wheelmq",
		Short:         "WheelMQ, an MQTT broker",
		Long:          longHelp,
		Example:       examples,
		Args:          cobra.NoArgs,
		Version:       buildVersion(),
		SilenceUsage:  true, // run prints errors, in one form for all commands
		SilenceErrors: true,
		RunE: func(*cobra.Command, []string) error {
			return runBroker(&flags, stdout, stderr)
		},
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetVersionTemplate("{{.Version}}\n")
	flags.register(root.Flags())
	root.AddCommand(newPub(os.Stdin, stdout, stderr), newSub(os.Stdin, stdout, stderr), newRR(os.Stdin, stdout, stderr))
	root.AddCommand(newPasswd(os.Stdin, stdout), newACL(stdout), newConfig(stdout), newStore(stdout, stderr), newBench(stdout, stderr))
	return root
}
