package verifier

import (
	"net/netip"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"taskey.dev/taskey"
)

func address(t *testing.T, text string) netip.Addr {
	t.Helper()
	address, err := netip.ParseAddr(text)
	if err != nil {
		t.Fatal(err)
	}
	return address
}

func TestExchangesOfAClientAreLimited(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	limit := newExchangeLimit(func() time.Time { return now })
	client := address(t, "192.0.2.1")
	permitted := func() int {
		count := 0
		for limit.check(client) == nil {
			count++
		}
		return count
	}
	if count := permitted(); count != 100 {
		t.Errorf("%d exchanges at once", count)
	}
	failure := taskey.AsError(limit.check(client))
	if failure.Code != codes.ResourceExhausted || failure.Reason != "RATE_LIMITED" {
		t.Error(failure)
	}
	if failure.RetryAfter != 200*time.Millisecond {
		t.Errorf("retry after %s", failure.RetryAfter)
	}
	now = now.Add(time.Second)
	if count := permitted(); count != 5 {
		t.Errorf("%d exchanges after a second", count)
	}
	if err := limit.check(address(t, "192.0.2.2")); err != nil {
		t.Error("another client:", err)
	}
	if err := limit.check(netip.Addr{}); err != nil {
		t.Error("an unknown client:", err)
	}
	now = now.Add(time.Minute)
	if count := permitted(); count != 100 {
		t.Errorf("%d exchanges after a minute", count)
	}
}

func TestAnIPv6NetworkIsOneClient(t *testing.T) {
	for text, expected := range map[string]string{
		"2001:db8::1": "2001:db8::", "2001:db8::ffff:1": "2001:db8::", "2001:db8:0:1::1": "2001:db8:0:1::",
		"::ffff:192.0.2.1": "192.0.2.1", "192.0.2.1": "192.0.2.1", "fe80::1%eth0": "fe80::",
	} {
		if key := countedAs(address(t, text)); key != address(t, expected) {
			t.Errorf("%s is counted as %s", text, key)
		}
	}
}

func TestFewClientsAreCounted(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	limit := newExchangeLimit(func() time.Time { return now })
	client := netip.AddrFrom4([4]byte{10, 0, 0, 0})
	for range 2 * maxCountedClients {
		if err := limit.check(client); err != nil {
			t.Fatal(err)
		}
		client = client.Next()
	}
	if len(limit.clients) > maxCountedClients {
		t.Errorf("%d clients are counted", len(limit.clients))
	}
	now = now.Add(time.Minute)
	limit.shrink(client, now)
	if len(limit.clients) != 0 {
		t.Errorf("%d clients are counted after a minute", len(limit.clients))
	}
}
