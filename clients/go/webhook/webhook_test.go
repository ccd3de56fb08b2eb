package webhook

import (
	"encoding/json"
	"net/http"
	"os"
	"testing"
	"time"
)

func TestVectors(t *testing.T) {
	text, err := os.ReadFile("../../conformance/webhooks.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors struct {
		Now   int64
		Cases []struct {
			Name, Secret, Body string
			Headers            map[string]string
			Valid              bool
		}
	}
	if err := json.Unmarshal(text, &vectors); err != nil || len(vectors.Cases) == 0 {
		t.Fatal("no vectors", err)
	}
	for _, vector := range vectors.Cases {
		header := http.Header{}
		for name, value := range vector.Headers {
			header.Set(name, value)
		}
		err := verify(vector.Secret, header, []byte(vector.Body), time.Unix(vectors.Now, 0))
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
