package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"taskey.dev/taskey"
)

func (a *adapter) open(request *request) (object, error) {
	client, err := taskey.New(taskey.Config{
		Address: request.Address, Plaintext: !request.TLS,
		TLS:   taskey.TLS{CAFile: request.CAFile, CertFile: request.CertFile, KeyFile: request.KeyFile},
		Email: request.Email, Password: request.Password, Token: request.AccessToken,
	})
	if err == nil {
		a.clients.put(request.Client, client)
	}
	return object{}, err
}

func (a *adapter) useClient(ctx context.Context, client *taskey.Client, request *request) (object, error) {
	switch request.Op {
	case "call":
		return call(ctx, client, request)
	case "list":
		return list(ctx, client, request)
	case "token":
		token, err := client.Token(ctx)
		return object{"access_token": token}, err
	case "logout":
		return object{}, client.Logout(ctx)
	case "watch":
		a.watches.put(request.Watch, startWatch(client, request.SyncToken))
		return object{}, nil
	default:
		_, _ = a.clients.remove(request.Client)
		return object{}, client.Close()
	}
}

// method has the name and the messages of an RPC.
type method struct {
	name              string
	request, response proto.Message
}

func parseMethod(request *request) (*method, error) {
	name := protoreflect.FullName(strings.ReplaceAll(request.Method, "/", "."))
	descriptor, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	if err != nil {
		return nil, err
	}
	rpc, isMethod := descriptor.(protoreflect.MethodDescriptor)
	if !isMethod {
		return nil, fmt.Errorf("%s is not a method", name)
	}
	input, err := protoregistry.GlobalTypes.FindMessageByName(rpc.Input().FullName())
	if err != nil {
		return nil, err
	}
	output, err := protoregistry.GlobalTypes.FindMessageByName(rpc.Output().FullName())
	if err != nil {
		return nil, err
	}
	parsed := &method{"/" + request.Method, input.New().Interface(), output.New().Interface()}
	if len(request.Request) > 0 {
		err = protojson.Unmarshal(request.Request, parsed.request)
	}
	return parsed, err
}

func call(ctx context.Context, client *taskey.Client, request *request) (object, error) {
	method, err := parseMethod(request)
	if err != nil {
		return nil, err
	}
	if request.TimeoutMS > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(request.TimeoutMS)*time.Millisecond)
		defer cancel()
	}
	if err := client.Conn().Invoke(ctx, method.name, method.request, method.response); err != nil {
		return nil, err
	}
	response, err := toJSON(method.response)
	return object{"response": response}, err
}

func list(ctx context.Context, client *taskey.Client, request *request) (object, error) {
	method, err := parseMethod(request)
	if err != nil {
		return nil, err
	}
	next := func(ctx context.Context, request proto.Message, options ...grpc.CallOption) (taskey.Page, error) {
		response := method.response.ProtoReflect().New().Interface()
		if err := client.Conn().Invoke(ctx, method.name, request, response, options...); err != nil {
			return nil, err
		}
		page, isPage := response.(taskey.Page)
		if !isPage {
			return nil, fmt.Errorf("%s has no pages", method.name)
		}
		return page, nil
	}
	items := []json.RawMessage{}
	for item, err := range taskey.List(ctx, next, method.request, itemsOf) {
		if err != nil {
			return nil, err
		}
		text, err := toJSON(item)
		if err != nil {
			return nil, err
		}
		items = append(items, text)
	}
	return object{"items": items}, nil
}

// itemsOf returns the elements of the repeated field of a page.
func itemsOf(page taskey.Page) []proto.Message {
	message := page.ProtoReflect()
	fields := message.Descriptor().Fields()
	var items []proto.Message
	for index := range fields.Len() {
		if field := fields.Get(index); field.IsList() && field.Message() != nil {
			elements := message.Get(field).List()
			for index := range elements.Len() {
				items = append(items, elements.Get(index).Message().Interface())
			}
		}
	}
	return items
}

// watch is a watch in the background. Its events are received one at a time.
type watch struct {
	cancel context.CancelFunc
	events chan object
	// Receives the error, and is closed when the watch has ended.
	ended chan error
}

func startWatch(client *taskey.Client, syncToken string) *watch {
	ctx, cancel := context.WithCancel(context.Background())
	watch := &watch{cancel, make(chan object), make(chan error, 1)}
	go func() {
		defer close(watch.ended)
		for event, err := range client.Watch(ctx, syncToken) {
			var described object
			if err == nil {
				described, err = describeEvent(event)
			}
			if err != nil {
				watch.ended <- err
				return
			}
			select {
			case watch.events <- described:
			case <-ctx.Done():
				return
			}
		}
	}()
	return watch
}

func (w *watch) next(ctx context.Context) (object, error) {
	select {
	case event := <-w.events:
		return event, nil
	case err, isOpen := <-w.ended:
		if !isOpen {
			err = context.Canceled
		}
		return nil, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (w *watch) stop() {
	w.cancel()
	for range w.ended {
	}
}

func describeEvent(event *taskey.Event) (object, error) {
	changes, err := describeChanges(event.Changes)
	if err != nil {
		return nil, err
	}
	listChanges, err := describeChanges(event.ListChanges)
	if err != nil {
		return nil, err
	}
	return object{
		"reset": event.Reset, "changes": changes, "list_changes": listChanges, "sync_token": event.SyncToken,
		"checkpoint": event.Checkpoint,
	}, nil
}

func describeChanges[M proto.Message](changes []M) ([]json.RawMessage, error) {
	described := []json.RawMessage{}
	for _, change := range changes {
		text, err := toJSON(change)
		if err != nil {
			return nil, err
		}
		described = append(described, text)
	}
	return described, nil
}
