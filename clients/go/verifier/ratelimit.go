package verifier

import (
	"net/netip"
	"sync"
	"time"
)

const (
	// The exchanges of each client: a burst, then one per interval. A valid token needs one every 5 minutes, so that only
	// clients with many invalid tokens reach the limit.
	exchangeBurst    = 100
	exchangeInterval = 200 * time.Millisecond
	// Maximum number of clients whose exchanges are counted.
	maxCountedClients = 4096
)

// exchangeLimit limits the exchanges of each client. It is the generic cell rate algorithm: an entry is the time at which
// the client has its whole burst again.
type exchangeLimit struct {
	now func() time.Time

	mu      sync.Mutex
	clients map[netip.Addr]time.Time
}

func newExchangeLimit(now func() time.Time) *exchangeLimit {
	return &exchangeLimit{now: now, clients: make(map[netip.Addr]time.Time)}
}

// check counts an exchange, and returns RESOURCE_EXHAUSTED / RATE_LIMITED if there were too many.
func (l *exchangeLimit) check(client netip.Addr) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	key, now := countedAs(client), l.now()
	full := l.clients[key]
	if full.Before(now) {
		full = now
	}
	if wait := full.Sub(now) - (exchangeBurst-1)*exchangeInterval; wait > 0 {
		return tooManyExchanges(wait)
	}
	l.clients[key] = full.Add(exchangeInterval)
	if len(l.clients) > maxCountedClients {
		l.shrink(key, now)
	}
	return nil
}

// shrink removes the clients that have their whole burst, which need no entry, and then any others, except one.
func (l *exchangeLimit) shrink(except netip.Addr, now time.Time) {
	for client, full := range l.clients {
		if !full.After(now) {
			delete(l.clients, client)
		}
	}
	for client := range l.clients {
		if len(l.clients) <= maxCountedClients {
			return
		}
		if client != except {
			delete(l.clients, client)
		}
	}
}

// countedAs returns the address under which a client is counted. An IPv6 client usually has a whole /64 network.
func countedAs(client netip.Addr) netip.Addr {
	client = client.Unmap().WithZone("")
	if !client.Is6() {
		return client
	}
	return netip.PrefixFrom(client, 64).Masked().Addr()
}
