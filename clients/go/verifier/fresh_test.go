package verifier

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	"taskey.dev/taskey"
)

func TestUsersMustHaveProvedAFactorRecently(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	scopes, service := []string{"tasks.read"}, &Actor{Subject: uuid.New()}
	for name, test := range map[string]struct {
		claims  Claims
		isFresh bool
	}{
		"just now":               {Claims{AuthenticatedAt: now}, true},
		"with the leeway":        {Claims{AuthenticatedAt: now.Add(-605 * time.Second)}, true},
		"too long ago":           {Claims{AuthenticatedAt: now.Add(-606 * time.Second)}, false},
		"too long ago, scopes":   {Claims{AuthenticatedAt: now.Add(-606 * time.Second), Scopes: scopes}, false},
		"a program":              {Claims{Scopes: scopes}, true},
		"neither time nor scope": {Claims{}, false},
		"a service for a user":   {Claims{AuthenticatedAt: now, Scopes: scopes, Actor: service}, true},
		"a service, too long":    {Claims{AuthenticatedAt: now.Add(-606 * time.Second), Scopes: scopes, Actor: service}, false},
		"a service without time": {Claims{Scopes: scopes, Actor: service}, false},
	} {
		err := test.claims.requireFresh(10*time.Minute, now)
		if test.isFresh {
			if err != nil {
				t.Errorf("%s: %s", name, err)
			}
			continue
		}
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		failure := taskey.AsError(err)
		if failure.Code != codes.PermissionDenied || failure.Reason != "STEP_UP_REQUIRED" ||
			failure.Metadata["required"] != "reauthentication" || failure.Metadata["max_age"] != "600" {
			t.Errorf("%s: %v %v", name, failure, failure.Metadata)
		}
	}
}
