// Command adapter translates requests of the conformance suite into calls of the client and of the verifier. Its
// protocol is in clients/conformance/README.md.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"taskey.dev/taskey"
)

// Requests can contain a whole batch of writes.
const maxLineBytes = 16 << 20

type request struct {
	ID json.RawMessage `json:"id"`
	Op string          `json:"op"`

	Client      string `json:"client"`
	Address     string `json:"address"`
	TLS         bool   `json:"tls"`
	CAFile      string `json:"ca_file"`
	CertFile    string `json:"cert_file"`
	KeyFile     string `json:"key_file"`
	Email       string `json:"email"`
	Password    string `json:"password"`
	AccessToken string `json:"access_token"`

	Method    string          `json:"method"`
	Request   json.RawMessage `json:"request"`
	TimeoutMS int64           `json:"timeout_ms"`
	Watch     string          `json:"watch"`
	SyncToken string          `json:"sync_token"`

	Verifier       string          `json:"verifier"`
	Keys           json.RawMessage `json:"keys"`
	Issuer         string          `json:"issuer"`
	Audience       string          `json:"audience"`
	Now            int64           `json:"now"`
	Token          string          `json:"token"`
	ClientAddress  string          `json:"client_address"`
	MaxAgeS        int64           `json:"max_age_s"`
	ServiceToken   string          `json:"service_token"`
	MaxStalenessMS int64           `json:"max_staleness_ms"`
}

type object map[string]any

// adapter has the objects that the driver has created, by their names.
type adapter struct {
	clients   registry[*taskey.Client]
	watches   registry[*watch]
	verifiers registry[*verifierServers]
	cancels   registry[context.CancelFunc]

	mu     sync.Mutex
	output *json.Encoder
}

func main() {
	adapter := &adapter{output: json.NewEncoder(os.Stdout)}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, maxLineBytes)
	for lines.Scan() {
		var request request
		if err := json.Unmarshal(lines.Bytes(), &request); err != nil {
			fmt.Fprintln(os.Stderr, "adapter:", err)
			os.Exit(2)
		}
		ctx, cancel := context.WithCancel(context.Background())
		id := string(request.ID)
		adapter.cancels.put(id, cancel)
		go func() {
			defer cancel()
			adapter.answer(ctx, &request)
			_, _ = adapter.cancels.remove(id)
		}()
	}
	if err := lines.Err(); err != nil {
		fmt.Fprintln(os.Stderr, "adapter:", err)
		os.Exit(2)
	}
}

func (a *adapter) answer(ctx context.Context, request *request) {
	result, err := a.execute(ctx, request)
	answer := object{"id": request.ID}
	if err != nil {
		answer["error"] = describe(err)
	} else {
		answer["ok"] = result
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.output.Encode(answer); err != nil {
		fmt.Fprintln(os.Stderr, "adapter:", err)
	}
}

func (a *adapter) execute(ctx context.Context, request *request) (object, error) {
	switch request.Op {
	case "open":
		return a.open(request)
	case "call", "list", "token", "logout", "close", "watch":
		client, err := a.clients.get(request.Client)
		if err != nil {
			return nil, err
		}
		return a.useClient(ctx, client, request)
	case "next":
		watch, err := a.watches.get(request.Watch)
		if err != nil {
			return nil, err
		}
		return watch.next(ctx)
	case "stop":
		watch, err := a.watches.remove(request.Watch)
		if err == nil {
			watch.stop()
		}
		return object{}, err
	case "cancel":
		cancel, err := a.cancels.get(string(request.Request))
		if err == nil {
			cancel()
		}
		return object{}, err
	case "verify_vector":
		return verifyVector(request)
	case "verifier":
		return a.openVerifier(request)
	case "verify", "state", "close_verifier":
		servers, err := a.verifiers.get(request.Verifier)
		if err != nil {
			return nil, err
		}
		return a.useVerifier(ctx, servers, request)
	}
	return nil, fmt.Errorf("unknown operation %q", request.Op)
}

// describe converts an error to the format of the protocol.
func describe(err error) object {
	failure := taskey.AsError(err)
	violations := []object{}
	for _, violation := range failure.Violations {
		violations = append(violations, object{"field": violation.GetField(), "description": violation.GetDescription()})
	}
	var retryAfter any
	if failure.RetryAfter > 0 {
		retryAfter = failure.RetryAfter.Milliseconds()
	}
	return object{
		"code": code.Code(failure.Code).String(), "reason": failure.Reason, "message": failure.Message,
		"metadata": failure.Metadata, "violations": violations, "retry_after_ms": retryAfter, "request_id": failure.RequestID,
	}
}

func toJSON(message proto.Message) (json.RawMessage, error) { return protojson.Marshal(message) }

// registry has values by their names.
type registry[Value any] struct {
	mu     sync.Mutex
	values map[string]Value
}

func (r *registry[Value]) put(name string, value Value) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.values == nil {
		r.values = make(map[string]Value)
	}
	r.values[name] = value
}

func (r *registry[Value]) get(name string) (Value, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	value, isPresent := r.values[name]
	if !isPresent {
		return value, fmt.Errorf("nothing has the name %q", name)
	}
	return value, nil
}

func (r *registry[Value]) remove(name string) (Value, error) {
	value, err := r.get(name)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.values, name)
	return value, err
}
