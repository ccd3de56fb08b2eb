{{/* The port of a component's server. */}}
{{- define "taskey.port" -}}
{{- get (dict "auth" "50051" "task" "50052" "gateway" "8080") . -}}
{{- end -}}

{{- define "taskey.securityContext.pod" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
# Makes the mounted secrets readable for the group; they belong to root.
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "taskey.securityContext.container" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Plaintext probes on a port of their own, so that TLS, rate limits and full connection limits do not fail them. */}}
{{- define "taskey.probes" -}}
startupProbe:
  httpGet: {path: /readyz, port: ops}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /livez, port: ops}
  periodSeconds: 10
  timeoutSeconds: 3
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /readyz, port: ops}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 2
{{- end -}}

{{/* The mounted secrets of a component: a list of {name, secret, path, items}. Takes (dict "root" $ "component" NAME). */}}
{{- define "taskey.mounts" -}}
{{- $values := .root.Values -}}
{{- $secrets := $values.secrets -}}
{{- $needsKeys := or (eq .component "auth") (and (eq .component "task") (not $secrets.taskToken)) -}}
{{- $token := get (dict "task" $secrets.taskToken "gateway" $secrets.gatewayToken) .component -}}
{{- if $needsKeys }}
- name: keys
  secret: {{ $secrets.keys }}
  path: {{ include "taskey.keys.path" . }}
  items: {{ ternary (list "keys.json" "refresh.secret") (list "keys.json") (eq .component "auth") | toJson }}
{{- end }}
{{- if $token }}
- name: token
  secret: {{ $token }}
  path: {{ include "taskey.token.path" . }}
  items: ["token"]
{{- end }}
{{- if and $secrets.webhookKey (eq .component "task") }}
- name: webhook-key
  secret: {{ $secrets.webhookKey }}
  path: {{ include "taskey.webhookKey.path" . }}
  items: ["webhook.key"]
{{- end }}
{{- if $values.tls.enabled }}
- name: tls
  secret: {{ get $values.tls .component }}
  path: {{ include "taskey.tls.path" . }}
  {{- $calls := has .component (list "task" "gateway") }}
  {{- $needsAuthority := or $calls (and $values.tls.mutual (eq .component "auth")) }}
  items: {{ ternary (list "tls.crt" "tls.key" "ca.crt") (list "tls.crt" "tls.key") $needsAuthority | toJson }}
{{- end }}
{{- end -}}

{{- define "taskey.volumeMounts" -}}
{{- range include "taskey.mounts" . | fromYamlArray }}
- name: {{ .name }}
  mountPath: {{ .path }}
  readOnly: true
{{- end }}
{{- if eq .component "task" }}
- name: imports
  mountPath: /data
{{- end }}
{{- end -}}

{{- define "taskey.volumes" -}}
{{- range include "taskey.mounts" . | fromYamlArray }}
- name: {{ .name }}
  secret:
    secretName: {{ .secret }}
    defaultMode: 0440
    items:
      {{- range .items }}
      - {key: {{ . }}, path: {{ . }}}
      {{- end }}
{{- end }}
{{- if eq .component "task" }}
# At most four imports at a time, of up to 100 MiB each.
- name: imports
  emptyDir: {sizeLimit: 512Mi}
{{- end }}
{{- end -}}

{{/* Where the pods of a component run. Takes (dict "root" $ "component" NAME). */}}
{{- define "taskey.scheduling" -}}
{{- $settings := get .root.Values .component -}}
topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "taskey.selector" $ | nindent 8 }}
  {{- end }}
{{- with $settings.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $settings.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $settings.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The environment of the services with a database. The URL may contain a password, so it is no flag. */}}
{{- define "taskey.environment" -}}
{{- if has .component (list "auth" "task") -}}
env:
  - name: TASKEY_DATABASE_URL
    valueFrom:
      secretKeyRef:
        name: {{ .root.Values.secrets.databases }}
        key: {{ .component }}
{{- end }}
{{- end -}}
