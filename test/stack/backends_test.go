package stack

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/otlptranslator"
)

// prometheusConfig has the keys that deploy/prometheus.yaml may have, of those of
// Prometheus 3.13: https://prometheus.io/docs/prometheus/3.13/configuration/configuration/
type prometheusConfig struct {
	Global struct {
		ScrapeInterval string `yaml:"scrape_interval"`
	}
	OTLP struct {
		TranslationStrategy       otlptranslator.TranslationStrategyOption `yaml:"translation_strategy"`
		PromoteResourceAttributes []string                                 `yaml:"promote_resource_attributes"`
	}
	Storage struct {
		TSDB struct {
			OutOfOrderTimeWindow string `yaml:"out_of_order_time_window"`
		}
	}
	ScrapeConfigs []struct {
		JobName       string `yaml:"job_name"`
		StaticConfigs []struct {
			Targets []string
		} `yaml:"static_configs"`
	} `yaml:"scrape_configs"`
}

func readPrometheus(t *testing.T) prometheusConfig {
	t.Helper()
	var config prometheusConfig
	readYAML(t, "deploy/prometheus.yaml", &config)
	return config
}

// tempoConfig is the same for deploy/tempo.yaml and Tempo 2.9:
// https://grafana.com/docs/tempo/v2.9.x/configuration/
type tempoConfig struct {
	StreamOverHTTPEnabled bool `yaml:"stream_over_http_enabled"`
	Server                struct {
		HTTPListenPort int `yaml:"http_listen_port"`
	}
	Distributor struct {
		Receivers struct {
			OTLP struct {
				Protocols map[string]struct{ Endpoint string }
			}
		}
	}
	Ingester struct {
		MaxBlockDuration string `yaml:"max_block_duration"`
	}
	Compactor struct {
		Compaction struct {
			BlockRetention string `yaml:"block_retention"`
		}
	}
	MetricsGenerator struct {
		TracesStorage struct{ Path string } `yaml:"traces_storage"`
		Storage       struct{ Path string }
		Processor     struct {
			LocalBlocks struct {
				FilterServerSpans bool `yaml:"filter_server_spans"`
				FlushToStorage    bool `yaml:"flush_to_storage"`
			} `yaml:"local_blocks"`
		}
	} `yaml:"metrics_generator"`
	Storage struct {
		Trace struct {
			Backend string
			WAL     struct{ Path string }
			Local   struct{ Path string }
		}
	}
	Overrides struct {
		Defaults struct {
			MetricsGenerator struct{ Processors []string } `yaml:"metrics_generator"`
			Global           struct {
				MaxBytesPerTrace int `yaml:"max_bytes_per_trace"`
			}
		}
	}
	UsageReport struct {
		ReportingEnabled bool `yaml:"reporting_enabled"`
	} `yaml:"usage_report"`
}

// TestTempo checks what the rest of the stack relies on: where Tempo listens, that its
// data are on the volume, and that it answers TraceQL metrics of spans of kind
// INTERNAL.
func TestTempo(t *testing.T) {
	var config tempoConfig
	readYAML(t, "deploy/tempo.yaml", &config)
	service := everything(t, composeFile)["tempo"]
	data := ""
	for _, mount := range service.Volumes {
		if mount.Source == "tempo-data" {
			data = mount.Target + "/"
		}
	}
	generator := config.MetricsGenerator
	for _, path := range []string{
		config.Storage.Trace.WAL.Path, config.Storage.Trace.Local.Path, generator.Storage.Path, generator.TracesStorage.Path,
	} {
		if data == "" || !strings.HasPrefix(path, data) {
			t.Errorf("%q is not on the volume, %q", path, data)
		}
	}
	if config.Server.HTTPListenPort != 3200 || config.Distributor.Receivers.OTLP.Protocols["grpc"].Endpoint != "0.0.0.0:4317" {
		t.Errorf("listens on %d and %v", config.Server.HTTPListenPort, config.Distributor.Receivers.OTLP.Protocols)
	}
	if diff := cmp.Diff([]string{"local-blocks"}, config.Overrides.Defaults.MetricsGenerator.Processors); diff != "" || generator.Processor.LocalBlocks.FilterServerSpans {
		t.Errorf("TraceQL metrics would have nothing of ours:\n%s", diff)
	}
}

// TestPrometheus checks that it asks the Collector where that shows its metrics, and
// takes OTLP.
func TestPrometheus(t *testing.T) {
	config := readPrometheus(t)
	jobs := config.ScrapeConfigs
	if len(jobs) != 1 || len(jobs[0].StaticConfigs) != 1 {
		t.Fatalf("jobs %+v, want one with one list of targets", jobs)
	}
	if diff := cmp.Diff([]string{"otel-collector:8888"}, jobs[0].StaticConfigs[0].Targets); diff != "" {
		t.Errorf("targets (-want +got):\n%s", diff)
	}
	command := strings.Join(everything(t, composeFile)["prometheus"].Command, " ")
	for _, flag := range []string{"--web.enable-otlp-receiver", "--config.file=/etc/prometheus/prometheus.yaml"} {
		if !strings.Contains(command, flag) {
			t.Errorf("prometheus is started without %s: %s", flag, command)
		}
	}
}
