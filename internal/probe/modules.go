package probe

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Kernel stands for the kernel image among the names of modules.
const Kernel = "vmlinux"

// ParseModules gives the names of modules as the kernel writes them (ip-gre is
// ip_gre). It refuses one that is not loaded.
func ParseModules(names, loaded []string) ([]string, error) {
	var modules []string
	for _, name := range names {
		module := strings.ReplaceAll(strings.TrimSpace(name), "-", "_")
		if module != Kernel && !slices.Contains(loaded, module) {
			return nil, fmt.Errorf("module %q is not loaded: see lsmod; what is built into the kernel belongs to %s", module, Kernel)
		}
		modules = append(modules, module)
	}
	return modules, nil
}

// wanted gives what says whether the options ask for a candidate.
func (o Options) wanted() func(Candidate) bool {
	path := curated()
	return func(c Candidate) bool {
		if o.Modules != nil && !slices.Contains(o.Modules, cmp.Or(c.Module, Kernel)) {
			return false
		}
		named := o.Modules != nil && c.Module != ""
		switch {
		case o.Pattern != nil:
			return o.Pattern.MatchString(c.Name)
		case o.Backend == BackendKprobe && !named:
			return path[c.Name]
		default:
			return true
		}
	}
}

// HasModules returns an error when one of the modules has no function among those
// that are probed. pattern is as for Usable.
func (s Selection) HasModules(modules []string, pattern string) error {
	for _, module := range modules {
		if slices.ContainsFunc(s.Functions, func(f Function) bool { return cmp.Or(f.Module, Kernel) == module }) {
			continue
		}
		if pattern != "" {
			return fmt.Errorf("module %s has no function that takes an skb, can be probed and matches %q: see 'otel-kprobe functions'", module, pattern)
		}
		return fmt.Errorf("module %s has no function that takes an skb and can be probed: see 'otel-kprobe functions'", module)
	}
	return nil
}
