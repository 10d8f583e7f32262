package stack

import (
	"encoding/json"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// dashboard is what is checked of one.
type dashboard struct {
	UID, Title    string
	SchemaVersion int
	Panels        []panel
}

type panel struct {
	ID         int
	Type       string
	Title      string
	Datasource *source
	GridPos    struct{ X, Y, W, H int }
	Targets    []target
	Options    json.RawMessage
}

type source struct{ Type, UID string }

type target struct {
	RefID      string
	Datasource source
	Expr       string // PromQL
	QueryType  string
	Query      string // TraceQL
}

// dashboards reads all of them, by their file's name.
func dashboards(t *testing.T) map[string]dashboard {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(root, "deploy", "grafana", "dashboards", "*.json"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("there are no dashboards: %v", err)
	}
	all := map[string]dashboard{}
	for _, path := range paths {
		name := filepath.Base(path)
		var d dashboard
		if err := json.Unmarshal(read(t, "deploy/grafana/dashboards/"+name), &d); err != nil {
			t.Fatalf("read %s: %v", name, err)
		}
		all[name] = d
	}
	return all
}

// datasources is deploy/grafana/datasources.yaml:
// https://grafana.com/docs/grafana/latest/administration/provisioning/#data-sources
type datasources struct {
	APIVersion  int `yaml:"apiVersion"`
	Datasources []struct {
		Name, Type, UID, URL string
		IsDefault            bool           `yaml:"isDefault"`
		JSONData             map[string]any `yaml:"jsonData"`
		Correlations         []correlation
	}
}

type correlation struct {
	TargetUID          string `yaml:"targetUID"`
	Label, Description string
	Type               string
	Config             struct {
		Field  string
		Target struct {
			QueryType string `yaml:"queryType"`
			Query     string
			Limit     int
			TableType string `yaml:"tableType"`
		}
		Transformations []struct {
			Type, Field, Expression string
			MapValue                string `yaml:"mapValue"`
		}
	}
}

// sources are the data sources by their uid, with their type.
func sources(t *testing.T) map[string]string {
	t.Helper()
	var file datasources
	readYAML(t, "deploy/grafana/datasources.yaml", &file)
	types := map[string]string{}
	for _, d := range file.Datasources {
		types[d.UID] = d.Type
	}
	return types
}

func TestDashboards(t *testing.T) {
	known, attributes, sources := knownSeries(t), documented(t), sources(t)
	uids := map[string]string{}
	for name, d := range dashboards(t) {
		t.Run(name, func(t *testing.T) {
			if d.UID == "" || d.Title == "" || d.SchemaVersion == 0 || uids[d.UID] != "" {
				t.Errorf("uid %q (also of %q), title %q, schema %d", d.UID, uids[d.UID], d.Title, d.SchemaVersion)
			}
			uids[d.UID] = name
			checkLayout(t, d.Panels)
			for _, p := range d.Panels {
				if p.Type != "text" && (p.Title == "" || len(p.Targets) == 0) {
					t.Errorf("panel %d has title %q and %d queries", p.ID, p.Title, len(p.Targets))
				}
				refs := map[string]bool{}
				for _, q := range p.Targets {
					if refs[q.RefID] {
						t.Errorf("%s: query %s is there twice", p.Title, q.RefID)
					}
					refs[q.RefID] = true
					if sources[q.Datasource.UID] == "" || sources[q.Datasource.UID] != q.Datasource.Type {
						t.Errorf("%s: there is no data source %v", p.Title, q.Datasource)
					}
					switch {
					case q.Datasource.Type == "prometheus" && q.Query == "":
						checkPromQL(t, known, q.Expr)
					case q.Datasource.Type == "tempo" && q.Expr == "" && q.QueryType == "traceql":
						checkTraceQL(t, attributes, q.Query)
					default:
						t.Errorf("%s: query %s has neither PromQL nor TraceQL alone", p.Title, q.RefID)
					}
				}
			}
		})
	}
}

// checkLayout checks that panels have numbers of their own and do not lie upon one
// another, in Grafana's grid of 24 columns.
func checkLayout(t *testing.T, panels []panel) {
	t.Helper()
	ids := map[int]bool{}
	for i, p := range panels {
		if ids[p.ID] {
			t.Errorf("two panels are number %d", p.ID)
		}
		ids[p.ID] = true
		a := p.GridPos
		if a.X < 0 || a.Y < 0 || a.W <= 0 || a.H <= 0 || a.X+a.W > 24 {
			t.Errorf("panel %q lies at %+v", p.Title, a)
		}
		for _, other := range panels[:i] {
			b := other.GridPos
			if a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
				t.Errorf("panels %q and %q lie upon one another", p.Title, other.Title)
			}
		}
	}
}

// TestCorrelations checks the links between traces as Grafana would make them.
func TestCorrelations(t *testing.T) {
	var file datasources
	readYAML(t, "deploy/grafana/datasources.yaml", &file)
	attributes, sources := documented(t), sources(t)
	// What a span gives to a link: https://grafana.com/docs/grafana/latest/datasources/tempo/traces-in-grafana/trace-correlations/
	given := map[string]bool{"traceID": true, "spanID": true, "tags": true}
	links := 0
	for _, d := range file.Datasources {
		for _, c := range d.Correlations {
			links++
			if sources[c.TargetUID] == "" || c.Type != "query" || !given[c.Config.Field] || c.Config.Target.QueryType != "traceql" {
				t.Errorf("%s: target %q, type %q, field %q, query type %q", c.Label, c.TargetUID, c.Type, c.Config.Field, c.Config.Target.QueryType)
			}
			made := map[string]bool{}
			for _, transformation := range c.Config.Transformations {
				if !given[transformation.Field] {
					t.Errorf("%s: a span has no %s", c.Label, transformation.Field)
				}
				made[transformation.MapValue] = true
			}
			for _, variable := range regexp.MustCompile(`\$+\{(\w+)\}`).FindAllStringSubmatch(c.Config.Target.Query, -1) {
				if !given[variable[1]] && !made[variable[1]] {
					t.Errorf("%s: nothing is called %s", c.Label, variable[1])
				}
				if !strings.HasPrefix(variable[0], "$$") {
					t.Errorf("%s: Grafana takes %s for an environment variable; write another $", c.Label, variable[0])
				}
			}
			checkTraceQL(t, attributes, c.Config.Target.Query)
		}
	}
	if links != 3 {
		t.Errorf("%d correlations, want 3", links)
	}
}

// TestTraceOfTheApplicationIsFound runs the expression that takes an application's
// trace id out of a root's attributes. Grafana runs it with JavaScript; it uses nothing
// that differs there.
func TestTraceOfTheApplicationIsFound(t *testing.T) {
	var file datasources
	readYAML(t, "deploy/grafana/datasources.yaml", &file)
	var found *regexp.Regexp
	for _, c := range file.Datasources[0].Correlations {
		for _, transformation := range c.Config.Transformations {
			found = regexp.MustCompile(transformation.Expression)
		}
	}
	if found == nil {
		t.Fatal("no correlation has a transformation")
	}
	const id = "0af7651916cd43dd8448eb211c80319c"
	for name, test := range map[string]struct{ tags, want string }{
		"of an application": {
			`[{"key":"otel_kprobe.end","value":"delivered"},{"key":"otel_kprobe.app.trace_id","value":"` + id + `"},{"key":"otel_kprobe.app.span_id","value":"b7ad6b7169203331"}]`, id,
		},
		"typed":          {`[{"key":"otel_kprobe.app.trace_id","type":"string","value":"` + id + `"}]`, id},
		"of nobody":      {`[{"key":"otel_kprobe.end","value":"delivered"}]`, ""},
		"of another key": {`[{"key":"otel_kprobe.app.trace_id","value":5},{"key":"other","value":"` + id + `"}]`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if match := found.FindStringSubmatch(test.tags); match != nil {
				got = match[1]
			}
			if got != test.want {
				t.Errorf("found %q, want %q", got, test.want)
			}
		})
	}
}
