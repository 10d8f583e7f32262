// Package elasticsearch has what Jaeger 2 names of github.com/elastic/go-elasticsearch/v9,
// in whose place build.sh puts it, and connects to nothing.
package elasticsearch

import (
	"errors"
	"net/http"

	"github.com/elastic/go-elasticsearch/v9/esapi"
)

// Config is what Jaeger fills in.
type Config struct {
	Addresses                                 []string
	Username, Password                        string
	DiscoverNodesOnStart, CompressRequestBody bool
	Header                                    http.Header
	Transport                                 http.RoundTripper
}

// Client is never made.
type Client struct{ Indices *esapi.Indices }

// NewClient fails.
func NewClient(Config) (*Client, error) {
	return nil, errors.New("use elasticsearch: this Jaeger is built without it")
}
