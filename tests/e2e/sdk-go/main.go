// A client of centrifuge-go: does what lines of JSON on standard input say, and tells what happens as such
// lines, in the words of sdk-python/client.py:
//
//	In:  {"id": 1, "do": "publish", "channel": "a", "data": 5}, and {"do": "token", "ask": 3, "token": "..."}
//	Out: {"event": "done", "id": 1, "result": {...}} or {"event": "failed", "id": 1, "code": 103, ...},
//	     {"event": "token_wanted", "ask": 3, "channel": "a"}, and each event of the SDK by its own name.
//
// The arguments are the URL, the options of the client as a JSON object, and a file of certificates or nothing.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/centrifugal/centrifuge-go"
)

type fields = map[string]any

var out sync.Mutex

func say(event string, f fields) {
	f["event"] = event
	line, err := json.Marshal(f)
	if err != nil {
		panic(err)
	}
	out.Lock()
	defer out.Unlock()
	fmt.Println(string(line))
}

// raw is JSON that passes through, or null.
func raw(bytes []byte) any {
	if len(bytes) == 0 {
		return nil
	}
	return json.RawMessage(bytes)
}

func info(i centrifuge.ClientInfo) fields {
	return fields{"user": i.User, "client": i.Client, "conn_info": raw(i.ConnInfo), "chan_info": raw(i.ChanInfo)}
}

func publication(p centrifuge.Publication) fields {
	f := fields{"offset": p.Offset, "data": raw(p.Data), "info": nil, "tags": p.Tags}
	if p.Info != nil {
		f["info"] = info(*p.Info)
	}
	return f
}

// asked: tokens are made by whoever drives this program.
type asked struct {
	sync.Mutex
	waiting []chan string
}

func (a *asked) token(channel any) (string, error) {
	answer := make(chan string, 1)
	a.Lock()
	ask := len(a.waiting)
	a.waiting = append(a.waiting, answer)
	a.Unlock()
	say("token_wanted", fields{"ask": ask, "channel": channel})
	return <-answer, nil
}

func (a *asked) answer(ask int, token string) {
	a.Lock()
	defer a.Unlock()
	a.waiting[ask] <- token
}

type options struct {
	Token             string  `json:"token"`
	AskToken          bool    `json:"ask_token"`
	UseProtobuf       bool    `json:"use_protobuf"`
	MinReconnectDelay float64 `json:"min_reconnect_delay"`
}

type command struct {
	ID        int             `json:"id"`
	Do        string          `json:"do"`
	Channel   string          `json:"channel"`
	Data      json.RawMessage `json:"data"`
	Method    string          `json:"method"`
	AskToken  bool            `json:"ask_token"`
	JoinLeave bool            `json:"join_leave"`
	Limit     int32           `json:"limit"`
	Reverse   bool            `json:"reverse"`
	Ask       int             `json:"ask"`
	Token     string          `json:"token"`
}

type program struct {
	client *centrifuge.Client
	asked  asked
}

func (p *program) open(url string, o options, trusted string) {
	config := centrifuge.Config{Token: o.Token, MinReconnectDelay: time.Duration(o.MinReconnectDelay * float64(time.Second))}
	if o.AskToken {
		config.GetToken = func(centrifuge.ConnectionTokenEvent) (string, error) { return p.asked.token(nil) }
	}
	if trusted != "" {
		pem, err := os.ReadFile(trusted)
		if err != nil {
			panic(err)
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(pem)
		config.TLSConfig = &tls.Config{RootCAs: pool}
	}
	if o.UseProtobuf {
		p.client = centrifuge.NewProtobufClient(url, config)
	} else {
		p.client = centrifuge.NewJsonClient(url, config)
	}
	c := p.client
	c.OnConnecting(func(e centrifuge.ConnectingEvent) { say("connecting", fields{"code": e.Code, "reason": e.Reason}) })
	c.OnConnected(func(e centrifuge.ConnectedEvent) { say("connected", fields{"client": e.ClientID}) })
	c.OnDisconnected(func(e centrifuge.DisconnectedEvent) { say("disconnected", fields{"code": e.Code, "reason": e.Reason}) })
	c.OnError(func(e centrifuge.ErrorEvent) { say("error", fields{"error": e.Error.Error()}) })
	// server-side subscriptions
	c.OnSubscribed(func(e centrifuge.ServerSubscribedEvent) {
		say("subscribed", fields{"channel": e.Channel, "was_recovering": e.WasRecovering, "recovered": e.Recovered})
	})
	c.OnPublication(func(e centrifuge.ServerPublicationEvent) {
		say("publication", fields{"channel": e.Channel, "pub": publication(e.Publication)})
	})
}

func (p *program) subscribe(c command) error {
	config := centrifuge.SubscriptionConfig{JoinLeave: c.JoinLeave}
	if c.AskToken {
		config.GetToken = func(e centrifuge.SubscriptionTokenEvent) (string, error) { return p.asked.token(e.Channel) }
	}
	sub, err := p.client.NewSubscription(c.Channel, config)
	if err != nil {
		return err
	}
	ch := c.Channel
	sub.OnSubscribed(func(e centrifuge.SubscribedEvent) {
		say("subscribed", fields{"sub": ch, "was_recovering": e.WasRecovering, "recovered": e.Recovered})
	})
	sub.OnUnsubscribed(func(e centrifuge.UnsubscribedEvent) { say("unsubscribed", fields{"sub": ch, "code": e.Code}) })
	sub.OnError(func(e centrifuge.SubscriptionErrorEvent) { say("error", fields{"sub": ch, "error": e.Error.Error()}) })
	sub.OnPublication(func(e centrifuge.PublicationEvent) { say("publication", fields{"sub": ch, "pub": publication(e.Publication)}) })
	sub.OnJoin(func(e centrifuge.JoinEvent) { say("join", fields{"sub": ch, "info": info(e.ClientInfo)}) })
	sub.OnLeave(func(e centrifuge.LeaveEvent) { say("leave", fields{"sub": ch, "info": info(e.ClientInfo)}) })
	return sub.Subscribe()
}

func (p *program) presence(ctx context.Context, channel string) (any, error) {
	result, err := p.client.Presence(ctx, channel)
	clients := fields{}
	for id, i := range result.Clients {
		clients[id] = info(i)
	}
	return fields{"clients": clients}, err
}

func (p *program) history(ctx context.Context, c command) (any, error) {
	result, err := p.client.History(ctx, c.Channel, centrifuge.WithHistoryLimit(c.Limit), centrifuge.WithHistoryReverse(c.Reverse))
	publications := []fields{}
	for _, pub := range result.Publications {
		publications = append(publications, publication(pub))
	}
	return fields{"publications": publications, "offset": result.Offset, "epoch": result.Epoch}, err
}

func (p *program) run(c command) (any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	switch c.Do {
	case "connect":
		return nil, p.client.Connect()
	case "disconnect":
		return nil, p.client.Disconnect()
	case "subscribe":
		return nil, p.subscribe(c)
	case "unsubscribe":
		sub, _ := p.client.GetSubscription(c.Channel)
		return nil, sub.Unsubscribe()
	case "publish":
		_, err := p.client.Publish(ctx, c.Channel, c.Data)
		return nil, err
	case "presence":
		return p.presence(ctx, c.Channel)
	case "presence_stats":
		result, err := p.client.PresenceStats(ctx, c.Channel)
		return fields{"num_clients": result.NumClients, "num_users": result.NumUsers}, err
	case "history":
		return p.history(ctx, c)
	case "rpc":
		_, err := p.client.RPC(ctx, c.Method, c.Data)
		return nil, err
	}
	return nil, fmt.Errorf("unknown: %s", c.Do)
}

func (p *program) do(c command) {
	result, err := p.run(c)
	var reply *centrifuge.Error
	switch {
	case err == nil:
		say("done", fields{"id": c.ID, "result": result})
	case errors.As(err, &reply):
		say("failed", fields{"id": c.ID, "code": reply.Code, "message": reply.Message, "temporary": reply.Temporary})
	default:
		say("failed", fields{"id": c.ID, "code": nil, "message": err.Error()})
	}
}

func main() {
	var o options
	if err := json.Unmarshal([]byte(os.Args[2]), &o); err != nil {
		panic(err)
	}
	p := &program{}
	p.open(os.Args[1], o, os.Args[3])
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var c command
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			panic(err)
		}
		if c.Do == "token" {
			p.asked.answer(c.Ask, c.Token)
			continue
		}
		go p.do(c)
	}
}
