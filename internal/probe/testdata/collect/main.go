// Command collect writes functions.txt: the functions that take an skb on
// several kernels, from copies of their /sys/kernel/btf.
//
//	go run ./internal/probe/testdata/collect 5.10=DIR 6.1=DIR … > internal/probe/testdata/functions.txt
package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/otel-kprobe/otel-kprobe/internal/kernel"
	"github.com/otel-kprobe/otel-kprobe/internal/probe"
)

func main() {
	lines := make(map[string][]string)
	for _, arg := range os.Args[1:] {
		release, dir, _ := strings.Cut(arg, "=")
		if err := collect(lines, release, dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	var out []string
	for line, releases := range lines {
		out = append(out, line+" "+strings.Join(slices.Compact(releases), ","))
	}
	slices.Sort(out)
	for _, line := range out {
		fmt.Println(line)
	}
}

func collect(lines map[string][]string, release, dir string) error {
	vmlinux, err := kernel.ReadBTF(dir, "vmlinux", nil)
	if err != nil {
		return err
	}
	scanner, err := probe.NewScanner(vmlinux, "amd64")
	if err != nil {
		return err
	}
	modules, err := kernel.ModulesWithBTF(dir)
	if err != nil {
		return err
	}
	found := scanner.Scan("vmlinux", vmlinux)
	for _, name := range modules {
		module, err := kernel.ReadBTF(dir, name, vmlinux)
		if err != nil {
			return err
		}
		found = append(found, scanner.Scan(name, module)...)
	}
	for _, c := range found {
		var args []string
		for _, a := range c.Skbs {
			arg := fmt.Sprint(a.Register)
			if a.Indirect {
				arg += "*"
			}
			args = append(args, arg)
		}
		line := c.Name + " " + c.Module + " " + strings.Join(args, ",")
		lines[line] = append(lines[line], release)
	}
	return nil
}
