package taskey

import (
	"context"
	"iter"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Page is a response that has a next page.
type Page interface {
	proto.Message
	GetNextPageToken() string
}

// List returns the items of all pages. Each page is requested when it is needed. After an error, the iteration ends.
//
//	for task, err := range taskey.List(ctx, client.Tasks.ListTasks, request, (*taskv1.ListTasksResponse).GetTasks) {
func List[Request proto.Message, Response Page, Item any](
	ctx context.Context,
	call func(context.Context, Request, ...grpc.CallOption) (Response, error),
	request Request,
	items func(Response) []Item,
) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		next := proto.CloneOf(request)
		for {
			page, err := call(ctx, next)
			if err != nil {
				var none Item
				yield(none, err)
				return
			}
			for _, item := range items(page) {
				if !yield(item, nil) {
					return
				}
			}
			if page.GetNextPageToken() == "" {
				return
			}
			message := next.ProtoReflect()
			message.Set(message.Descriptor().Fields().ByName("page_token"), protoreflect.ValueOfString(page.GetNextPageToken()))
		}
	}
}
