package webhook

import (
	"encoding/json"
	"net/http"
	"os"
	"strconv"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

type vector struct {
	Name, Secret, Body string
	Headers            map[string]string
	Valid              bool
}

func (v vector) header() http.Header {
	header := http.Header{}
	for name, value := range v.Headers {
		header.Set(name, value)
	}
	return header
}

// readVectors returns the messages that must be accepted or refused, and the time at which they are verified.
// clients/webhooks records further messages.
func readVectors(t *testing.T) (time.Time, []vector) {
	t.Helper()
	path := os.Getenv("TASKEY_WEBHOOK_VECTORS")
	if path == "" {
		path = "../../conformance/webhooks.json"
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var vectors struct {
		Now   int64
		Cases []vector
	}
	if err := json.Unmarshal(text, &vectors); err != nil || len(vectors.Cases) == 0 {
		t.Fatal("no vectors", err)
	}
	return time.Unix(vectors.Now, 0), vectors.Cases
}

func TestVectors(t *testing.T) {
	now, vectors := readVectors(t)
	for _, vector := range vectors {
		err := verify(vector.Secret, vector.header(), []byte(vector.Body), now)
		if (err == nil) != vector.Valid {
			t.Errorf("%s: %v", vector.Name, err)
		}
	}
}

// The library reads the clock, so the messages at other times are left out.
func TestLibraryOfStandardWebhooksAgreesWithTheVectors(t *testing.T) {
	now, vectors := readVectors(t)
	for _, vector := range vectors {
		seconds, err := strconv.ParseInt(vector.Headers["webhook-timestamp"], 10, 64)
		if err == nil && now.Sub(time.Unix(seconds, 0)).Abs() > Tolerance {
			continue
		}
		reference, err := standardwebhooks.NewWebhook(vector.Secret)
		if err != nil {
			t.Fatal(vector.Name, err)
		}
		err = reference.VerifyIgnoringTimestamp([]byte(vector.Body), vector.header())
		if (err == nil) != vector.Valid {
			t.Errorf("%s: %v", vector.Name, err)
		}
	}
}

func TestInvalidSecretIsAnError(t *testing.T) {
	if Verify("whsec_%", http.Header{}, nil) == nil {
		t.Error("accepted")
	}
}
