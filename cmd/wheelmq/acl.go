package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/wheelmq/wheelmq/engine/auth"
)

// newACL returns the command that tries out ACL files.
func newACL(stdout io.Writer) *cobra.Command {
	var file string
	test := &cobra.Command{
		Use:   "test --acl-file FILE CASES",
		Short: "Run cases against an ACL file and explain each verdict",
		Long: `Runs cases against an ACL file and says for each which rule decides. A line of
CASES is

  USER CLIENTID publish|retain|will|subscribe|receive TOPIC allow|deny

where - stands for no user name. The exit status is 2 when a verdict is not the
expected one.`,
		Example: `  wheelmq acl test --acl-file acl cases`,
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return testACL(stdout, file, args[0])
		},
	}
	test.Flags().StringVar(&file, "acl-file", "", "the ACL file")
	_ = test.MarkFlagRequired("acl-file") // the flag is there
	c := &cobra.Command{Use: "acl", Short: "Try out ACL files"}
	c.AddCommand(test)
	return c
}

func testACL(w io.Writer, file, path string) error {
	acl, err := auth.ReadACL(file)
	if err != nil {
		return systemError("%w", err)
	}
	cases, err := auth.ReadCases(path)
	if err != nil {
		return systemError("%w", err)
	}
	wrong := 0
	for _, c := range cases {
		v, err := acl.Explain(c.User, c.ClientID, c.Action, c.Name)
		if err != nil {
			return systemError("%s:%d: %w", path, c.Line, err)
		}
		mark, verdict := "ok    ", "denied"
		if v.Allowed {
			verdict = "allowed"
		}
		if v.Allowed != c.Allowed {
			wrong++
			mark = "WRONG "
		}
		user := c.User
		if user == "" {
			user = "-"
		}
		fmt.Fprintf(w, "%s %s %s %s %s: %s, %s\n", mark, user, c.ClientID, c.Action, c.Name, verdict, v.Why)
	}
	fmt.Fprintf(w, "%d cases, %d wrong\n", len(cases), wrong)
	if wrong > 0 {
		return &exitError{exitWrong, fmt.Errorf("%d of %d verdicts are not the expected ones", wrong, len(cases))}
	}
	return nil
}
