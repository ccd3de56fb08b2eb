package taskey

import (
	"context"
	"iter"

	"google.golang.org/grpc/codes"

	taskv1 "taskey.dev/taskey/gen/taskey/task/v1"
)

// Event is a message of a watch.
type Event struct {
	// Reset reports whether a full synchronization begins. Empty the local copy before applying the changes.
	Reset bool
	// Changes are the changes to tasks, in the order in which they happened.
	Changes []*taskv1.TaskChange
	// ListChanges are the changes to lists, in the order in which they happened.
	ListChanges []*taskv1.TaskListChange
	// SyncToken continues the watch after these changes, also in another process.
	SyncToken string
	// Checkpoint reports whether all changes so far have been received.
	Checkpoint bool
}

// Watch returns the changes to the user's tasks and lists after a sync token, and then later changes as they happen. An
// empty token begins with all tasks and lists. The watch resumes by itself when its connection or its access token is lost, and begins
// again if its sync token has expired. It ends with an error when the context ends, or if resuming cannot help.
func (c *Client) Watch(ctx context.Context, syncToken string) iter.Seq2[*Event, error] {
	return func(yield func(*Event, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		isReset := syncToken == ""
		for attempt := 1; ; attempt++ {
			stream, err := c.Tasks.WatchTasks(ctx, &taskv1.WatchTasksRequest{SyncToken: syncToken})
			accessToken := c.session.current().GetAccessToken()
			for err == nil {
				var message *taskv1.WatchTasksResponse
				if message, err = stream.Recv(); err != nil {
					break
				}
				syncToken, attempt = message.GetSyncToken(), 0
				event := &Event{
					Reset: isReset, Changes: message.GetChanges(), ListChanges: message.GetListChanges(),
					SyncToken: syncToken, Checkpoint: message.GetCheckpoint(),
				}
				if !yield(event, nil) {
					return
				}
				isReset = false
			}
			failure := AsError(err)
			switch failure.Reason {
			case "SYNC_TOKEN_EXPIRED":
				syncToken, isReset = "", true
			case "TOKEN_EXPIRED":
				c.session.expire(accessToken)
			}
			delay := max(failure.RetryAfter, backoffAfter(max(attempt, 1)))
			if !c.canResume(failure) || ctx.Err() != nil || !sleep(ctx, delay) {
				yield(nil, failure)
				return
			}
		}
	}
}

// canResume reports whether another stream can continue a watch.
func (c *Client) canResume(failure *Error) bool {
	switch failure.Code {
	case codes.Unauthenticated:
		return failure.Reason == "TOKEN_EXPIRED" && c.session.isRenewable()
	case codes.OutOfRange:
		return failure.Reason == "SYNC_TOKEN_EXPIRED"
	case codes.ResourceExhausted:
		return failure.RetryAfter > 0
	default:
		return failure.isTransient()
	}
}
