package taskey_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"taskey.dev/taskey"
)

// watch is a watch in the background.
type watch struct {
	t      *testing.T
	events chan *taskey.Event
	errors chan error
	cancel context.CancelFunc
}

func startWatch(t *testing.T, client *taskey.Client, syncToken string) *watch {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	watch := &watch{t, make(chan *taskey.Event, 1000), make(chan error, 1), cancel}
	go func() {
		for event, err := range client.Watch(ctx, syncToken) {
			if err != nil {
				watch.errors <- err
				return
			}
			watch.events <- event
		}
	}()
	return watch
}

// expect waits for an event with a task of this title.
func (w *watch) expect(title string, timeout time.Duration) *taskey.Event {
	w.t.Helper()
	deadline := time.After(timeout)
	for {
		select {
		case event := <-w.events:
			for _, change := range event.Changes {
				if change.GetTask().GetTitle() == title {
					return event
				}
			}
		case err := <-w.errors:
			w.t.Fatal(err)
		case <-deadline:
			w.t.Fatalf("no event with %q in time", title)
		}
	}
}

func TestWatchBeginsWithAFullSynchronization(t *testing.T) {
	t.Parallel()
	_, client := start(t, nil)
	create(t, client, "first")
	watch := startWatch(t, client, "")
	event := watch.expect("first", 5*time.Second)
	if !event.Reset || !event.Checkpoint {
		t.Fatalf("%+v", event)
	}
	create(t, client, "second")
	if event = watch.expect("second", 5*time.Second); event.Reset || len(event.Changes) != 1 {
		t.Fatalf("%+v", event)
	}
	watch.cancel()
	assertReason(t, <-watch.errors, codes.Canceled, "")
	create(t, client, "third")
	event = startWatch(t, client, event.SyncToken).expect("third", 5*time.Second)
	if event.Reset || len(event.Changes) != 1 {
		t.Fatalf("%+v", event)
	}
}

func TestWatchResumes(t *testing.T) {
	t.Parallel()
	server, proxy, client := startBehindProxy(t)
	watch := startWatch(t, client, "")
	create(t, client, "start")
	watch.expect("start", 5*time.Second)
	for _, test := range []struct {
		title     string
		interrupt func()
	}{
		{"cut connection", proxy.Cut},
		{"GOAWAY", func() { server.Stop(); server.Run() }},
		{"crash", func() { server.Kill(); server.Run() }},
		{"crash with downtime", func() { server.Kill(); time.Sleep(3 * time.Second); server.Run() }},
	} {
		test.interrupt()
		other := openWithToken(t, server, client)
		create(t, other, test.title)
		if event := watch.expect(test.title, 10*time.Second); event.Reset || len(event.Changes) != 1 {
			t.Fatalf("%s: %+v", test.title, event)
		}
	}
}

func TestWatchSurvivesTheExpiryOfItsToken(t *testing.T) {
	t.Parallel()
	server, client := start(t, nil, "--access-token-ttl", "1s")
	watch := startWatch(t, client, "")
	for range 3 {
		time.Sleep(4 * time.Second)
		create(t, client, "Buy milk")
		if event := watch.expect("Buy milk", 5*time.Second); len(event.Changes) != 1 {
			t.Fatalf("%+v", event)
		}
	}
	static := openWithToken(t, server, client)
	for _, err := range static.Watch(t.Context(), "") {
		if err != nil {
			assertReason(t, err, codes.Unauthenticated, "TOKEN_EXPIRED")
		}
	}
}

func TestWatchOfAStalledConnectionIsResumed(t *testing.T) {
	t.Parallel()
	server, proxy, client := startBehindProxy(t)
	create(t, client, "start")
	watch := startWatch(t, client, "")
	watch.expect("start", 5*time.Second)
	proxy.Stall()
	other := openWithToken(t, server, client)
	create(t, other, "Buy milk")
	watch.expect("Buy milk", 40*time.Second)
}

func TestWatchReportsErrorsThatAnotherStreamWouldRepeat(t *testing.T) {
	t.Parallel()
	_, client := start(t, nil)
	for _, err := range client.Watch(t.Context(), "invalid") {
		assertReason(t, err, codes.InvalidArgument, "SYNC_TOKEN_INVALID")
	}
}
