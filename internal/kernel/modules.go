package kernel

import (
	"bytes"
	"fmt"
	"os"
)

// ModulesPath lists the loaded modules.
const ModulesPath = "/proc/modules"

// LoadedModules returns the names in a file laid out as ModulesPath: none when it
// does not exist, as on a kernel that can load no modules.
func LoadedModules(path string) ([]string, error) {
	text, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list modules: %w", err)
	}
	var names []string
	for line := range bytes.Lines(text) {
		if fields := bytes.Fields(line); len(fields) > 0 {
			names = append(names, string(fields[0]))
		}
	}
	return names, nil
}
