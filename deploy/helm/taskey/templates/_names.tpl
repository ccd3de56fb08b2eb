{{/* The name of the release's objects: taskey, or RELEASE-taskey. */}}
{{- define "taskey.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* The labels that select the pods of a component. Takes (dict "root" $ "component" NAME). */}}
{{- define "taskey.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* All labels of a component. Takes (dict "root" $ "component" NAME). */}}
{{- define "taskey.labels" -}}
{{ include "taskey.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{/* The program of a component. */}}
{{- define "taskey.program" -}}
{{- get (dict "auth" "auth-service" "task" "task-service" "gateway" "gateway" "standalone" "taskey") . -}}
{{- end -}}

{{/* The image of a component. Takes (dict "root" $ "component" NAME). */}}
{{- define "taskey.image" -}}
{{- $image := .root.Values.image -}}
{{- printf "%s/%s:%s" $image.registry (include "taskey.program" .component) ($image.tag | default .root.Chart.AppVersion) -}}
{{- end -}}

{{/* The URL of a service. Takes (dict "root" $ "component" NAME "port" PORT). */}}
{{- define "taskey.url" -}}
{{- printf "%s://%s-%s:%v" (ternary "https" "http" .root.Values.tls.enabled) (include "taskey.name" .root) .component .port -}}
{{- end -}}

{{/* The components of the mode, separated by spaces. */}}
{{- define "taskey.components" -}}
{{- ternary "standalone" "auth task gateway" (eq .Values.mode "standalone") -}}
{{- end -}}
