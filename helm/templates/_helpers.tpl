{{/* The name of the chart's objects: the release's, with the chart's where it lacks it. */}}
{{- define "model-runtime-operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* The name of what belongs to the whole cluster: a release in another namespace has another. */}}
{{- define "model-runtime-operator.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "model-runtime-operator.fullname" .) -}}
{{- end -}}

{{- define "model-runtime-operator.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "model-runtime-operator.labels" -}}
{{ include "model-runtime-operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: model-runtime
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .Values.commonLabels }}
{{ toYaml (omit . "app.kubernetes.io/name" "app.kubernetes.io/instance") }}
{{- end }}
{{- end -}}

{{- define "model-runtime-operator.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "model-runtime-operator.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{/* An image's reference: list $ "operator" or list $ "runtime". */}}
{{- define "model-runtime-operator.image" -}}
{{- $root := index . 0 -}}
{{- $image := index $root.Values.image (index . 1) -}}
{{- with default $root.Values.image.registry ($root.Values.global).imageRegistry }}{{ trimSuffix "/" . }}/{{ end }}{{ $image.repository }}:{{ $image.tag | default $root.Chart.AppVersion }}
{{- with $image.digest }}@{{ . }}{{ end }}
{{- end -}}

{{/* The pull secrets of the operator's image, global ones first, without repetition. */}}
{{- define "model-runtime-operator.pullSecrets" -}}
{{- $names := list -}}
{{- range concat (default list (.Values.global).imagePullSecrets) .Values.image.pullSecrets -}}
{{- $names = append $names (ternary (dict "name" .) . (kindIs "string" .)) -}}
{{- end -}}
{{- with uniq $names }}{{ toYaml . }}{{ end -}}
{{- end -}}

{{/* Where the smallest ModelRuntime may be tried: a namespace that is watched. */}}
{{- define "model-runtime-operator.testNamespace" -}}
{{- first (append .Values.watchNamespaces .Release.Namespace) -}}
{{- end -}}
