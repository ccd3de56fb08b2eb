package verifier

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"taskey.dev/taskey"
	authv1 "taskey.dev/taskey/gen/taskey/auth/v1"
)

// feed is a server whose messages a test determines.
type feed struct {
	authv1.UnimplementedTokenServiceServer
	// Each value is sent to the current stream; nil ends it.
	messages chan *authv1.WatchRevocationsResponse
	// The sequence numbers that the verifier has confirmed.
	acknowledged chan int64
}

func (f *feed) WatchRevocations(
	_ *authv1.WatchRevocationsRequest, stream grpc.ServerStreamingServer[authv1.WatchRevocationsResponse],
) error {
	for {
		select {
		case message := <-f.messages:
			if message == nil {
				return status.Error(codes.Unavailable, "the stream ends")
			}
			message.SendTime = timestamppb.Now()
			if err := stream.Send(message); err != nil {
				return err
			}
		case <-stream.Context().Done():
			return nil
		}
	}
}

func (f *feed) AcknowledgeRevocations(
	_ context.Context, request *authv1.AcknowledgeRevocationsRequest,
) (*authv1.AcknowledgeRevocationsResponse, error) {
	f.acknowledged <- request.GetSequence()
	return &authv1.AcknowledgeRevocationsResponse{}, nil
}

// snapshot sends a snapshot and a heartbeat.
func (f *feed) snapshot(epoch string, sequence int64, issuedBefore *timestamppb.Timestamp, sessions ...string) {
	chunk := &authv1.WatchRevocationsResponse_SnapshotChunk{RevokedSessionIds: sessions}
	end := &authv1.WatchRevocationsResponse_SnapshotEnd{IssuedBefore: issuedBefore}
	f.messages <- &authv1.WatchRevocationsResponse{
		Epoch: epoch, Event: &authv1.WatchRevocationsResponse_SnapshotChunk_{SnapshotChunk: chunk},
	}
	f.messages <- &authv1.WatchRevocationsResponse{
		Epoch: epoch, Sequence: sequence, Event: &authv1.WatchRevocationsResponse_SnapshotEnd_{SnapshotEnd: end},
	}
	// A message of a newer server.
	f.messages <- &authv1.WatchRevocationsResponse{Epoch: epoch, Sequence: sequence}
	f.heartbeat(epoch, sequence)
}

func (f *feed) heartbeat(epoch string, sequence int64) {
	beat := &authv1.WatchRevocationsResponse_Heartbeat_{Heartbeat: &authv1.WatchRevocationsResponse_Heartbeat{}}
	f.messages <- &authv1.WatchRevocationsResponse{Epoch: epoch, Sequence: sequence, Event: beat}
}

// followFeed starts a feed, and a verifier with the keys of the other tests that follows it.
func followFeed(t *testing.T) (*feed, *Verifier) {
	t.Helper()
	feed := &feed{messages: make(chan *authv1.WatchRevocationsResponse), acknowledged: make(chan int64, 10)}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	authv1.RegisterTokenServiceServer(server, feed)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	keyFile := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(keyFile, []byte(keySet()), 0o600); err != nil {
		t.Fatal(err)
	}
	verifier, err := New(Config{Address: listener.Addr().String(), Plaintext: true, KeyFile: keyFile})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(verifier.Close)
	return feed, verifier
}

// tokenOf returns a token that was issued at a time.
func tokenOf(session string, issuedAt time.Time) string {
	times := claims().with("iat", issuedAt.Unix()).with("exp", issuedAt.Add(5*time.Minute).Unix())
	return signed(header().text(), times.with("sid", session).text())
}

// assertEventually waits until a token is refused for this reason, or accepted if it is empty.
func assertEventually(t *testing.T, verifier *Verifier, token, reason string) {
	t.Helper()
	var err error
	for range 100 {
		_, err = verifier.Verify(token)
		if err == nil && reason == "" || err != nil && taskey.AsError(err).Reason == reason {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("%v instead of %q", err, reason)
}

func TestRevocationsSurviveANewEpoch(t *testing.T) {
	t.Parallel()
	feed, verifier := followFeed(t)
	first, second, other := uuid.NewString(), uuid.NewString(), uuid.NewString()
	assertEventually(t, verifier, tokenOf(first, time.Now()), "VERIFIER_NOT_READY")
	feed.snapshot("a", 5, nil, first)
	assertEventually(t, verifier, tokenOf(first, time.Now()), "TOKEN_REVOKED")
	assertEventually(t, verifier, tokenOf(second, time.Now()), "")
	if sequence := <-feed.acknowledged; sequence != 5 {
		t.Fatal(sequence)
	}
	update := &authv1.WatchRevocationsResponse_Update{RevokedSessionIds: []string{second}}
	feed.messages <- &authv1.WatchRevocationsResponse{
		Epoch: "a", Sequence: 6, Event: &authv1.WatchRevocationsResponse_Update_{Update: update},
	}
	assertEventually(t, verifier, tokenOf(second, time.Now()), "TOKEN_REVOKED")
	if sequence := <-feed.acknowledged; sequence != 6 {
		t.Fatal(sequence)
	}
	feed.messages <- nil
	feed.snapshot("b", 1, nil)
	for _, session := range []string{first, second} {
		assertEventually(t, verifier, tokenOf(session, time.Now()), "TOKEN_REVOKED")
	}
	assertEventually(t, verifier, tokenOf(other, time.Now()), "")
}

func TestOlderTokensAreExpiredIfRevocationsWereCollapsed(t *testing.T) {
	t.Parallel()
	feed, verifier := followFeed(t)
	now := time.Now()
	feed.snapshot("a", 1, timestamppb.New(now.Add(-time.Minute)))
	assertEventually(t, verifier, tokenOf(uuid.NewString(), now), "")
	assertEventually(t, verifier, tokenOf(uuid.NewString(), now.Add(-2*time.Minute)), "TOKEN_EXPIRED")
	// A later snapshot does not move the limit back.
	feed.messages <- nil
	feed.snapshot("a", 2, nil)
	assertEventually(t, verifier, tokenOf(uuid.NewString(), now.Add(-2*time.Minute)), "TOKEN_EXPIRED")
}

func TestFeedWithoutASnapshotIsNotFollowed(t *testing.T) {
	t.Parallel()
	feed, verifier := followFeed(t)
	for range 3 {
		feed.heartbeat("a", 1)
	}
	if state := verifier.State(); state != Cold {
		t.Fatal(state)
	}
	assertEventually(t, verifier, tokenOf(uuid.NewString(), time.Now()), "VERIFIER_NOT_READY")
}
