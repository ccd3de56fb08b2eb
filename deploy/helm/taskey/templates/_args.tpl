{{/* The directories of mounted secrets. */}}
{{- define "taskey.keys.path" -}}/run/secrets/taskey/keys{{- end -}}
{{- define "taskey.tls.path" -}}/run/secrets/taskey/tls{{- end -}}
{{- define "taskey.webhookKey.path" -}}/run/secrets/taskey/webhook{{- end -}}
{{- define "taskey.token.path" -}}/run/secrets/taskey/token{{- end -}}

{{/* The flags of all programs. Takes (dict "root" $ "component" NAME). */}}
{{- define "taskey.args.common" -}}
{{- $values := .root.Values -}}
{{- $tls := include "taskey.tls.path" . -}}
- --ops-listen={{ $values.listenAddress }}:9090
- --shutdown-delay={{ $values.shutdown.delay }}s
- --drain-timeout={{ $values.shutdown.drain }}s
- --log-format=json
{{- with $values.otlp.endpoint }}
- --otlp-endpoint={{ . }}
- --trace-sample-ratio={{ $values.otlp.sampleRatio }}
{{- end }}
{{- if $values.tls.enabled }}
- --tls-cert-file={{ $tls }}/tls.crt
- --tls-key-file={{ $tls }}/tls.key
{{- if and $values.tls.mutual (has .component (list "auth" "task")) }}
- --tls-client-ca-file={{ $tls }}/ca.crt
- --tls-client-auth=required
{{- end }}
{{- if has .component (list "task" "gateway") }}
- --upstream-ca-file={{ $tls }}/ca.crt
{{- if $values.tls.mutual }}
- --upstream-cert-file={{ $tls }}/tls.crt
- --upstream-key-file={{ $tls }}/tls.key
{{- end }}
{{- end }}
{{- else }}
- --insecure-plaintext
{{- end }}
{{- end -}}

{{/* The flags for browsers. */}}
{{- define "taskey.args.browsers" -}}
{{- with .Values.publicUrl }}
- --public-url={{ . }}
{{- end }}
{{- with .Values.trustedProxies }}
- --trusted-proxies={{ join "," . }}
{{- end }}
{{- end -}}

{{- define "taskey.args.auth" -}}
{{- $keys := include "taskey.keys.path" . -}}
- --listen={{ .Values.listenAddress }}:50051
- --key-file={{ $keys }}/keys.json
- --secret-file={{ $keys }}/refresh.secret
- --migrate=check
{{- end -}}

{{- define "taskey.args.task" -}}
- --listen={{ .Values.listenAddress }}:50052
- --auth-url={{ include "taskey.url" (dict "root" . "component" "auth" "port" 50051) }}
{{- if .Values.secrets.taskToken }}
- --service-token-file={{ include "taskey.token.path" . }}/token
{{- else }}
- --key-file={{ include "taskey.keys.path" . }}/keys.json
{{- end }}
{{- if .Values.secrets.webhookKey }}
- --webhook-key-file={{ include "taskey.webhookKey.path" . }}/webhook.key
{{- end }}
- --migrate=check
{{- end -}}

{{- define "taskey.args.gateway" -}}
- --listen={{ .Values.listenAddress }}:8080
- --auth-url={{ include "taskey.url" (dict "root" . "component" "auth" "port" 50051) }}
- --task-url={{ include "taskey.url" (dict "root" . "component" "task" "port" 50052) }}
{{- if .Values.secrets.gatewayToken }}
- --service-token-file={{ include "taskey.token.path" . }}/token
{{- end }}
{{- include "taskey.args.browsers" . }}
{{- end -}}

{{- define "taskey.args.standalone" -}}
- --data-dir=/data
- --auth-listen={{ .Values.listenAddress }}:50051
- --task-listen={{ .Values.listenAddress }}:50052
- --gateway-listen={{ .Values.listenAddress }}:8080
{{- include "taskey.args.browsers" . }}
{{- end -}}
