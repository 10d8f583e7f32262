package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// newCompletion builds the command completion in place of cobra's own, which lets
// succeed for shells that it does not know. It is hidden: packages install what it
// prints.
func newCompletion(sys system) *cobra.Command {
	shells := []string{"bash", "zsh", "fish"}
	return &cobra.Command{
		Use:                   "completion " + strings.Join(shells, "|"),
		Short:                 "Print what makes a shell complete our command lines",
		Hidden:                true,
		DisableFlagsInUseLine: true,
		ValidArgs:             shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageErrorf("name one shell: %s", strings.Join(shells, ", "))
			}
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return readerGone(root.GenBashCompletionV2(sys.stdout, true))
			case "zsh":
				return readerGone(root.GenZshCompletion(sys.stdout))
			case "fish":
				return readerGone(root.GenFishCompletion(sys.stdout, true))
			}
			return usageError(fmt.Errorf("there is no completion for %q: name one of %s", args[0], strings.Join(shells, ", ")))
		},
	}
}
